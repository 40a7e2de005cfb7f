"""Networks that make pictures larger or cleaner, in every architecture that spandrel knows."""
