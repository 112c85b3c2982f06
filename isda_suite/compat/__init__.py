"""What makes the stack below us work.

``import_hook`` and ``mmcv_ext`` stand in for mmcv's compiled operators, ``warning_filters`` keeps
known noise of the libraries out of our tools' output, ``gloo`` starts several processes on a
machine without an accelerator, ``versions`` says which installed packages do not fit together,
``mmcv_switch`` puts our operators in the place of mmcv's when a configuration asks for it.
Nothing is imported here: every module is loaded where it is used.
"""
