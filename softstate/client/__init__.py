"""The client: a sans-I/O machine (`machine`), its Trio shell (`shell`), and what applications see of it (`api`)."""
