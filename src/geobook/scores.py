"""How near a map is to optimal transport, and everything the paper measures of one network.

The optimal transport score of a map x_i -> y_i is the share of points that the optimal pairing of
the two clouds leaves with their own image (the paper's eq. (47)). Taken alone it can mislead: where
many pairings cost nearly the same, a change of the costs by next to nothing moves it far.
`transport_report` therefore says beside it how much cheaper the optimum is, and between which
values the score lies if differences of cost below a stated slack do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from geobook.transport import PairCosts, optimal_assignment
from geobook.validation import Points, non_negative


@dataclass(frozen=True)
class TransportReport:
    """What `transport_report` finds out about a map x_i -> y_i.

    Attributes
    ----------
    ots : float
        Optimal transport score (eq. (47)), ties in favour of the map.
    ots_low, ots_high : float
        Score of the pairing that is optimal once keeping a point at its own image costs
        ``discount`` more, or less. No pairing as cheap as the one behind `ots_low` has a lower
        score; none as cheap as the one behind `ots_high` has a higher one.
    excess_cost : float
        Share of the mean squared distance, between the centred clouds, that the optimal pairing
        saves: 0 if the map is optimal, at most 1.
    wasserstein2 : float
        Distance W2 of the clouds, in the unit of the points.
    duality_gap : float
        Largest of the three solutions' duality gaps, in squared distance per point.
    slack : float
        What was asked for, relative.
    discount : float
        ``slack`` times the mean squared distance of x_i and y_i, the clouds centred: what one
        point may cost more or less, in squared distance.
    excess_low, excess_high : float
        How much dearer than the optimum the pairings behind `ots_low` and `ots_high` are, relative
        like `excess_cost`; never more than ``slack``.
    points : int
        Size of the clouds.
    """

    ots: float
    ots_low: float
    ots_high: float
    excess_cost: float
    wasserstein2: float
    duality_gap: float
    slack: float
    discount: float
    excess_low: float
    excess_high: float
    points: int

    def rows(self) -> list[tuple[str, str]]:
        """Names and formatted values, as the printed and the HTML table show them."""
        return [
            ("optimal transport score", f"{self.ots:.4f}"),
            (
                f"its range at a price of {self.slack:.2g} a point",
                f"{self.ots_low:.4f} to {self.ots_high:.4f}",
            ),
            ("excess cost", f"{self.excess_cost:.4g}"),
            ("W2 distance", f"{self.wasserstein2:.6g}"),
            ("duality gap", f"{abs(self.duality_gap):.1e}"),
            ("points", str(self.points)),
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.rows())

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in self.rows()
        )
        return f"<table><caption>Transport report</caption><tbody>{body}</tbody></table>"


def optimal_transport_score(x: Points, y: Points) -> float:
    """Share of the points that optimal transport sends to their own image (eq. (47)).

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Points and their images: row i of y is the image of row i of x.

    Returns
    -------
    float
        In [0, 1]; 1 if and only if the map is optimal, to rounding. Among equally cheap pairings
        the one that keeps most points counts (see `geobook.transport`).

    Raises
    ------
    ValueError, MemoryError, ArithmeticError
        As `geobook.optimal_assignment`.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [5.0]])
    >>> optimal_transport_score(x, 2 * x + 1), optimal_transport_score(x, -x)
    (1.0, 0.3333333333333333)
    """
    return optimal_assignment(x, y).kept


def transport_report(x: Points, y: Points, slack: float = 1e-3) -> TransportReport:
    """Optimal transport score with its interval, the excess cost, W2, and the certificate.

    The score lives on a knife's edge where pairings cost nearly the same. The interval shows it:
    let delta be ``slack`` times the mean squared distance of x_i and y_i (the clouds centred).
    `ots_high` is the score of the pairing that minimises the mean squared distance minus delta
    times the score, `ots_low` that with plus delta. What is promised:

    * ``ots_low <= ots <= ots_high``, and all three are attained by pairings whose mean squared
      distance exceeds the minimum by at most delta (how much, `excess_low` and `excess_high` tell);
    * a pairing whose score is above `ots_high` (below `ots_low`) by s costs at least delta times s
      more than the one found there: it pays more than delta for each further point.

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Points and their images.
    slack : float
        Relative difference of cost per point that shall not count.

    Returns
    -------
    TransportReport

    Raises
    ------
    ValueError
        If `slack` is negative; and as `geobook.optimal_assignment`.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    >>> report = transport_report(x, 1.5 * x)
    >>> report.ots, report.excess_cost
    (1.0, 0.0)
    """
    slack = non_negative(slack, "slack")
    costs = PairCosts(x, y)
    discount = slack * costs.own_cost
    best = costs.solve()
    # A score of 0 cannot go lower, one of 1 not higher.
    low = costs.solve(-discount) if discount > 0 and best.kept > 0 else best
    high = costs.solve(discount) if discount > 0 and best.kept < 1 else best
    saved = costs.saving(best.permutation)
    unit = costs.own_cost or 1.0
    return TransportReport(
        ots=best.kept,
        ots_low=min(low.kept, best.kept),
        ots_high=max(high.kept, best.kept),
        excess_cost=max(0.0, saved) / unit,
        wasserstein2=best.cost**0.5,
        duality_gap=max((best.duality_gap, low.duality_gap, high.duality_gap), key=abs),
        slack=slack,
        discount=discount,
        excess_low=max(0.0, saved - costs.saving(low.permutation)) / unit,
        excess_high=max(0.0, saved - costs.saving(high.permutation)) / unit,
        points=len(best.permutation),
    )
