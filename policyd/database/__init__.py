"""PostgreSQL: rows, and what is in force of them, as tables like those in files (SPEC 9). Only psycopg's place."""
