"""The report's sections, one module each, in the order in which they stand in `report.writing`."""
