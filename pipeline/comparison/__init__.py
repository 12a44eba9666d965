"""From the table of cells to differences, intervals and the verdict."""
