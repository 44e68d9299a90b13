"""A sweep: the ledger of its cells, and the report that is made of it."""
