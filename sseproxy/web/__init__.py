"""Pages for people: what a browser is served besides the API. The pages themselves lie in ``static``."""
