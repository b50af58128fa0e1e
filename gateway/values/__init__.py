"""Custom value requests, from the query to the answer."""
