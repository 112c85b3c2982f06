"""Public data sets and single files from other machines: found, fetched, checked, unpacked."""
