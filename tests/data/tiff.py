"""Write TIFF files that Pillow and OpenCV would not: any number of bands."""

from pathlib import Path

from PIL.TiffImagePlugin import ImageFileDirectory_v2


def write_tiff(path, pixels):
    """Write (H, W, bands) pixels of 8 or 16 bits, uncompressed; the bands beyond 3 are no alpha."""
    height, width, bands = pixels.shape
    data = pixels.tobytes()
    tags = ImageFileDirectory_v2()
    tags[256], tags[257] = width, height
    tags[258] = (8 * pixels.itemsize,) * bands
    tags[259], tags[262] = 1, 2 if bands > 2 else 1
    # Pillow counts the place of the pixels from the end of the tags.
    tags[273], tags[277], tags[278], tags[279], tags[284] = 0, bands, height, len(data), 1
    if bands > 3:
        tags[338] = (0,) * (bands - 3)
    with Path(path).open('wb') as file:
        tags.save(file)
        file.write(data)
