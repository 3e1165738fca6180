"""The library under the command line: values in, values out. It never prints and never exits."""
