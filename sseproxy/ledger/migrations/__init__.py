"""How the ledger's database came to be as it is: Alembic's scripts, run when a ledger is opened."""
