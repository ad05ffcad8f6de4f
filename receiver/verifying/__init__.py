"""Why a webhook of ours does not verify at somebody's: which part of what they received does not fit, and what to do.

Pure. ``read_headers`` takes what a person pastes, ``examine`` compares it with what was sent, and ``explain_computed``
says which frequent mistake leads to the signature that somebody's own code computed.
"""

from receiver.verifying.bodies import Difference
from receiver.verifying.examining import Finding, Report, Sent, Signer, State, examine
from receiver.verifying.mistakes import explain_computed, explain_secret
from receiver.verifying.pasted import read_headers

__all__ = [
    "Difference",
    "Finding",
    "Report",
    "Sent",
    "Signer",
    "State",
    "examine",
    "explain_computed",
    "explain_secret",
    "read_headers",
]
