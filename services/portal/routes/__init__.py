"""A file for each noun of the FrontEnd's surface; each ends with its rows of the table."""
