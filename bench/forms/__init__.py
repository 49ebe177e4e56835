"""Form checks of user-defined objects, and of what their methods return, before anything is computed."""
