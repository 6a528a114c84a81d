"""How jobs come in: the spool folder."""
