"""Telling of an outage of the catalog once, however many calls meet it."""

from __future__ import annotations

from _thread import allocate_lock

from ltm.errors import CatalogUnavailableError, LTMError
from ltm.typed import TYPE_CHECKING, AbstractContextManager

if TYPE_CHECKING:
    from logging import Logger


class Outage:
    """Whether the catalog can be reached, as far as the calls of a backend have found out.

    A call that ends late says nothing of the time after it: it counts only if the epoch is still
    that in which it began.
    """

    def __init__(self, catalog: object, *, recalls: bool) -> None:
        """Begin with a *catalog* that answers.

        Args:
            catalog: Its ``repr`` names it in the log.
            recalls: Whether reads are answered from memory meanwhile.
        """
        self.epoch = 0
        """How many outages have begun and ended: odd during one. Take it when a call begins."""
        self._catalog = catalog
        self._meanwhile = (
            "what was read lately is answered from memory, as stale" if recalls else "calls fail"
        )
        self._lock = allocate_lock()

    def began(self, error: LTMError, epoch: int) -> None:
        """Log an outage, if *error* tells of one that is not known yet.

        Args:
            error: What a call raised; only :class:`CatalogUnavailableError` counts.
            epoch: That in which the call began.
        """
        if isinstance(error, CatalogUnavailableError) and not epoch % 2 and self._enter(epoch + 1):
            message = "catalog %r is unavailable, %s: %s"
            _logger().warning(message, self._catalog, self._meanwhile, error)

    def ended(self, epoch: int) -> None:
        """Log that an outage is over: a call that began in *epoch* has reached the catalog."""
        if epoch % 2 and self._enter(epoch + 1):
            _logger().info("catalog %r is available again", self._catalog)

    def watching(self) -> AbstractContextManager[None]:
        """Note what becomes of a block that reaches the catalog if it succeeds."""
        return _Watch(self)

    def _enter(self, epoch: int) -> bool:
        """Return whether *epoch* follows the present one and is entered by this call."""
        with self._lock:
            follows = epoch == self.epoch + 1
            if follows:
                self.epoch = epoch
            return follows


class _Watch:
    """One block whose outcome tells of the catalog."""

    def __init__(self, outage: Outage) -> None:
        self._outage = outage

    def __enter__(self) -> None:
        self._epoch = self._outage.epoch

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            self._outage.ended(self._epoch)
        elif isinstance(error, LTMError):
            self._outage.began(error, self._epoch)


def _logger() -> Logger:
    import logging  # here: most processes meet no outage, and it takes as long as a dozen stores

    return logging.getLogger(__name__)
