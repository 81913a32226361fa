"""What answers say, task by task: numbers, tables and figures of a report."""
