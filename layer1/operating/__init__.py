"""What an operator does with the home of a replica that stands still: check it, look at it, empty it, export it."""
