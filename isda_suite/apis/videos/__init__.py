"""Videos of any length: read, cut into clips, linked, drawn, evaluated."""
