"""The web demo: choose a model, drop a picture or a video, look at what is found, take it home.

``server`` starts it, ``page`` lays it out, ``handlers`` answers its buttons; only these two load
gradio. ``models``, ``outcome``, ``files`` and ``examples`` do the work, and know no web.
"""
