"""The dashboard: pages for people, at ``/``.

How a page is added:

1. A module of its own here, imported in this file. A view is a function behind ``frame.page``::

       @page("GET", "/subscribers", nav="Subscribers")
       def subscribers() -> Response:
           return render("subscribers.html", page=runtime().subscribers.list_page(account(), 20, None))

   ``page`` lets only signed-in people through and checks the CSRF token of a POST. ``auth.account()`` is the
   account whose key signed in. Services are called directly; what they raise becomes a page that says what to do.
2. A template in ``templates/`` that extends ``base.html`` and fills the blocks ``title`` and ``main``. Addresses come
   from ``link('subscriber', subscriber_id=…)`` (the view's name; relative, so they work behind any prefix), files of
   ``static/`` from ``asset('vendor/uplot.min.css')``. ``_parts.html`` has the macros: ``badge``, ``id_of``, ``csrf``,
   ``empty``, ``more``, ``field``. ``formatting`` has the filters: ``moment``, ``ago``, ``duration``, ``short``,
   ``pretty``, ``count``, ``pair``.
3. No style and no script in the page (the policy forbids both): classes of ``dashboard.css``, code in ``static/``.
4. A POST does its work, says so with ``flask.flash`` (shown once on the next page) and returns ``redirect('view', …)``.
   With errors it renders its form again with status 422, and all that was typed still in it.
5. What is to be live stands in one element that reads its own page again and picks itself out of it::

       <section id="live" {{ live(2) }}> … </section>

   Every 2 s while the page is visible; an answer that changed nothing swaps nothing; open ``details`` with an id
   stay open. An element that comes back without ``live`` is not read again.
6. ``nav=`` puts the page into the navigation, in the order of the imports below; ``section=`` names the page of the
   navigation that another one belongs to.

Tests: the fixture ``visitor`` (tests/web/dashboard/conftest.py) is somebody who is signed in.
"""

from __future__ import annotations

from receiver.web.dashboard.frame import attach, blueprint

# Importing a module of pages registers them; this is their order in the navigation.
# isort: off
from receiver.web.dashboard import overview, tasks, submit  # noqa: F401
from receiver.web.dashboard import subscribers, deliveries, events, verify, keys  # noqa: F401
from receiver.web.dashboard import signing_in  # noqa: F401

# isort: on

__all__ = ["attach", "blueprint"]
