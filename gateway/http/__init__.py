"""The two HTTP applications: what Webio sends, and what operators ask."""
