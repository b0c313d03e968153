"""``sseproxy doctor``: reads canned streams through a deployed path and says what is wrong with it.

``reading`` reads, ``checks`` and ``buffering`` judge what was read, ``examination`` decides what is read. How a
report looks may not go in here; nor may anything that needs the configuration: the doctor knows a URL and a key.
"""

from sseproxy.doctor.examination import Report, examine
from sseproxy.doctor.finding import Finding, Untestable

__all__ = ["Finding", "Report", "Untestable", "examine"]
