"""The page of a report: one HTML file that shows one or more runs, without any other file.

`runs` is what it shows, `sections` are its questions, `blocks` what these are made of, `pictures`
figures and thumbnails, and `templates/` how all of it looks.
"""

from simclrv2_tf.report.page.document import html
from simclrv2_tf.report.page.runs import Run, Samples, Stage
