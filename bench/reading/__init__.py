"""Reading a store: results of cells, ratios of two cells, and the text of names and numbers."""
