"""The rating server: links, pages and answers."""
