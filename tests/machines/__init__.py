"""Several machines on one PostgreSQL: webs behind a load balancer, and workers, each with a folder of its own."""
