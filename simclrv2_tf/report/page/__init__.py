"""The page of a report: one self-contained HTML file that shows one or more runs.

`runs` has the data, `sections` the questions of the page, `blocks` their parts, `pictures` figures
and thumbnails, and `templates/` the HTML and CSS.
"""

from simclrv2_tf.report.page.document import html
from simclrv2_tf.report.page.runs import Run, Samples, Stage
