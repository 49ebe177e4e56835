"""Elements that all pages and figures share: markers and colours, axes, curves, templates."""
