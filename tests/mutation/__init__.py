"""Are the tests any good? Changes policy/ and protocol/ one spot at a time and looks whether a test notices."""
