"""Custom value requests, from the query string to the answer."""
