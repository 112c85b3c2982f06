"""Pictures and rasters of any size: read in windows, predicted in tiles, written in rows."""
