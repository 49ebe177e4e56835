"""What every page and figure shares: markers and colours, axes, curves, templates."""
