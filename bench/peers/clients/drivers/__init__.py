"""Applications, one program for each client library, that note what they hold and what they are told, and when."""
