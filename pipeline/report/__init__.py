"""The report: reading the results, their tables, plots and pictures, and the page that holds them."""
