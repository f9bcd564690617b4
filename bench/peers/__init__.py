"""softstate beside other systems that deliver changes: one load generator for all of them."""
