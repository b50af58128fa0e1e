"""The two HTTP applications: the public one for Webio, and the admin one for operators."""
