"""Reading and writing the files of models; knows no layer."""
