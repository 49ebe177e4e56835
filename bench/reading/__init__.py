"""Reading a store: results of cells, ratios of two, and how names and numbers are written."""
