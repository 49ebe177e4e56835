"""Gradient estimators as users write them, wrong and right, each with its exact mean.

Every case is a small function of a key, a generator, a seed or nothing. `mean` is the exact expectation of the estimator
and `truth` the exact gradient: both are computed here in NumPy, by closed form, quadrature or enumeration, and use no
code of gradmeter. The numbers and titles of the cases are those of the list of cases that `audit` has to judge.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy import integrate, stats
from scipy.stats import qmc

Tree = Any


def flatten(tree: Tree) -> np.ndarray:
    """Return all numbers of a tree of arrays as one vector, dicts in the order of their keys."""
    if isinstance(tree, Mapping):
        return np.concatenate([flatten(tree[key]) for key in sorted(tree)])
    if isinstance(tree, list | tuple):
        return np.concatenate([flatten(part) for part in tree])
    return np.asarray(tree, dtype=float).reshape(-1)


@dataclass(frozen=True)
class Case:
    """An estimator, the arguments of `audit`, and the relative bias ‖E ĝ − g‖ / ‖g‖ of the estimator."""

    number: str
    framework: str
    gradient: Callable[..., Any]
    bias: float
    arguments: Mapping[str, Any]
    fault: str | None = None  # regular expression that the fault must contain
    dependent: bool = False  # the replicates are not independent, so no bias is defined
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        return f"{self.number}-{self.gradient.__name__}"


WRONG: list[Case] = []
RIGHT: list[Case] = []
REFERENCES = {"exact", "problem", "objective", "log_density", "integrand", "against"}


def _case(
    number: int | str,
    framework: str,
    *,
    truth: Tree,
    mean: Tree,
    fault: str | None = None,
    dependent: bool = False,
    tags: tuple[str, ...] = (),
    **arguments: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    g, m = flatten(truth), flatten(mean)
    bias = float(np.linalg.norm(m - g) / np.linalg.norm(g))
    if not REFERENCES & set(arguments):
        arguments["exact"] = truth

    def add(gradient: Callable[..., Any]) -> Callable[..., Any]:
        case = Case(str(number), framework, gradient, bias, arguments, fault, dependent, frozenset(tags))
        (WRONG if bias > 1e-9 or dependent else RIGHT).append(case)
        return gradient

    return add


def wrong(number: int, framework: str, **keywords: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an estimator whose mean is not the gradient."""
    return _case(number, framework, **keywords)


def right(title: str, framework: str, *, truth: Tree, **keywords: Any) -> Callable[[Callable[..., Any]], Any]:
    """Add an unbiased estimator."""
    return _case(title, framework, truth=truth, mean=truth, **keywords)


# Models ---------------------------------------------------------------------------------------------------------------


def softmax(logits: Any) -> np.ndarray:
    """Return exp(logits), normalised over the last axis."""
    logits = np.asarray(logits, dtype=float)
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(120)


def normal_mean(h: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return E h(ε), ε ~ N(0, 1), of a smooth h by Gauss–Hermite quadrature."""
    return (_WEIGHTS * h(_NODES)).sum(-1) / math.sqrt(2 * math.pi)


# Square: f(z) = (z − 2)², z ~ N(0, 1); derivatives in loc and log σ.
K = 2.0
SQUARE = {"loc": np.array([-4.0]), "log_scale": np.array([2.0])}
PAIR = np.array([-4.0, 2.0])

# Bandit: four arms, softmax policy.
THETA = np.array([0.3, -0.2, 0.1, 0.0])
REWARD = np.array([1.0, 0.5, 0.2, 0.0])
P = softmax(THETA)
VALUE = float(P @ REWARD)
BANDIT = P * (REWARD - VALUE)
T_THETA, T_REWARD = torch.tensor(THETA, dtype=torch.float32), torch.tensor(REWARD, dtype=torch.float32)
J_THETA, J_REWARD = jnp.asarray(THETA, jnp.float32), jnp.asarray(REWARD, jnp.float32)


def bandit_value_torch(theta: Any) -> Any:
    """Return the expected reward."""
    return (torch.softmax(theta, 0) * torch.as_tensor(REWARD, dtype=theta.dtype)).sum()


def bandit_value_jax(theta: Any) -> Any:
    """Return the expected reward."""
    return (jax.nn.softmax(theta) * jnp.asarray(REWARD)).sum()


def bandit_value_numpy(theta: Any) -> Any:
    """Return the expected reward."""
    return float(softmax(theta) @ REWARD)


# Categorical with five states, and a reference policy.
PHI = np.array([0.5, -0.5, 1.0, 0.0, -1.0])
REF = softmax([0.0, 0.3, -0.4, 0.8, 0.1])
PI = softmax(PHI)
LOG_RATIO = np.log(PI / REF)
KL = float(PI @ LOG_RATIO)
KL_GRADIENT = PI * (LOG_RATIO - KL)  # of KL(π ‖ ref)
T_PHI, T_REF = torch.tensor(PHI, dtype=torch.float32), torch.tensor(REF, dtype=torch.float32)
J_PHI, J_REF = jnp.asarray(PHI, jnp.float32), jnp.asarray(REF, jnp.float32)


def kl_torch(phi: Any) -> Any:
    """Return KL(π ‖ ref)."""
    log_pi = torch.log_softmax(phi, 0)
    return (log_pi.exp() * (log_pi - torch.as_tensor(np.log(REF), dtype=phi.dtype))).sum()


def kl_jax(phi: Any) -> Any:
    """Return KL(π ‖ ref)."""
    log_pi = jax.nn.log_softmax(phi)
    return (jnp.exp(log_pi) * (log_pi - jnp.log(jnp.asarray(REF)))).sum()


# Bernoulli vector: f(b) = (Σ w b − 0.4)², three bits, derivatives in the logits.
LOGITS = np.array([0.4, -0.3, 0.8])
BITS_W = np.array([0.5, 1.0, -0.7])
PROB = 1 / (1 + np.exp(-LOGITS))


def _bernoulli_gradient() -> np.ndarray:
    total = np.zeros(3)
    for bits in itertools.product([0, 1], repeat=3):
        b = np.array(bits)
        total += np.prod(np.where(b == 1, PROB, 1 - PROB)) * (BITS_W @ b - 0.4) ** 2 * (b - PROB)
    return total


BERNOULLI = _bernoulli_gradient()
T_LOGITS, T_BITS_W = torch.tensor(LOGITS, dtype=torch.float32), torch.tensor(BITS_W, dtype=torch.float32)
J_LOGITS, J_BITS_W = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(BITS_W, jnp.float32)

# Regression: loss ½ Σ (y − x·w)² over 20 rows, taken in batches of 5.
_DATA = np.random.default_rng(17)
X = _DATA.standard_normal((20, 2))
Y = X @ np.array([1.0, -2.0]) + 0.3 * _DATA.standard_normal(20)
W = np.array([0.2, 0.1])
REGRESSION = -X.T @ (Y - X @ W)
T_X, T_Y, T_W = (torch.tensor(a, dtype=torch.float32) for a in (X, Y, W))
J_X, J_Y, J_W = (jnp.asarray(a, jnp.float32) for a in (X, Y, W))


def regression_loss_torch(w: Any) -> Any:
    """Return the loss of all rows."""
    return 0.5 * ((torch.as_tensor(Y, dtype=w.dtype) - torch.as_tensor(X, dtype=w.dtype) @ w) ** 2).sum()


def regression_loss_jax(w: Any) -> Any:
    """Return the loss of all rows."""
    return 0.5 * ((jnp.asarray(Y) - jnp.asarray(X) @ w) ** 2).sum()


def regression_loss_numpy(w: Any) -> Any:
    """Return the loss of all rows."""
    return 0.5 * ((Y - X @ w) ** 2).sum()


# Linear regression with a Normal posterior over two weights: three rows.
BX, BY = X[:3], Y[:3]
B_LOC, B_SCALE = np.array([0.5, -1.0]), np.array([0.5, 0.8])
ELBO = {
    "loc": BX.T @ (BY - BX @ B_LOC) - B_LOC,
    "log_scale": 1 - B_SCALE**2 * ((BX**2).sum(0) + 1),
}
NO_ENTROPY = {"loc": ELBO["loc"], "log_scale": ELBO["log_scale"] - 1}
B_PARAMETERS = {"loc": B_LOC, "log_scale": np.log(B_SCALE)}
T_PARAMETERS = {key: torch.tensor(value, dtype=torch.float32) for key, value in B_PARAMETERS.items()}
J_PARAMETERS = {key: jnp.asarray(value, jnp.float32) for key, value in B_PARAMETERS.items()}


def elbo_torch(q: Any) -> Any:
    """Return the ELBO in closed form, up to a constant."""
    x, y = (torch.as_tensor(a, dtype=q["loc"].dtype) for a in (BX, BY))
    variance = torch.exp(2 * q["log_scale"])
    fit = -0.5 * ((y - x @ q["loc"]) ** 2).sum() - 0.5 * (x**2 @ variance).sum()
    return fit - 0.5 * (q["loc"] ** 2 + variance).sum() + q["log_scale"].sum()


def elbo_jax(q: Any) -> Any:
    """Return the ELBO in closed form, up to a constant."""
    x, y = jnp.asarray(BX), jnp.asarray(BY)
    variance = jnp.exp(2 * q["log_scale"])
    fit = -0.5 * ((y - x @ q["loc"]) ** 2).sum() - 0.5 * (x**2 @ variance).sum()
    return fit - 0.5 * (q["loc"] ** 2 + variance).sum() + q["log_scale"].sum()


def normal_log_density(q: Any, z: Any) -> Any:
    """Return log N(z; loc, σ²), summed over coordinates."""
    e = (z - q["loc"]) / np.exp(q["log_scale"])
    return (-0.5 * e**2 - q["log_scale"] - 0.5 * math.log(2 * math.pi)).sum()


def regression_log_joint(z: Any) -> Any:
    """Return log p(y, w), up to a constant."""
    return -0.5 * ((BY - BX @ z) ** 2).sum() - 0.5 * (z**2).sum()


def regression_elbo_integrand(q: Any, z: Any) -> Any:
    """Return log p(y, w) − log q(w)."""
    return regression_log_joint(z) - normal_log_density(q, z)


# Short sequences: three tokens from a vocabulary of three, each drawn given the one before it.
LENGTH, VOCABULARY = 3, 3
POLICY = np.array([[0.2, -0.1, 0.4], [0.5, 0.0, -0.5], [-0.3, 0.6, 0.1], [0.0, 0.2, 0.9]])  # row 3: the start
TOKEN_REWARD = np.array([1.0, 0.3, -0.2])
REPEAT_REWARD = 0.5


def step_rewards(tokens: Any) -> np.ndarray:
    """Return the reward of each step."""
    tokens = np.asarray(tokens)
    repeated = np.concatenate([[False], tokens[1:] == tokens[:-1]])
    return TOKEN_REWARD[tokens] + REPEAT_REWARD * repeated


def policy_mean(sampling: np.ndarray, weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return E Σ_t weight_t ∇ log π(token_t) by enumeration, tokens drawn from the rows of `sampling`."""
    pi, total = softmax(POLICY), np.zeros_like(POLICY)
    for tokens in itertools.product(range(VOCABULARY), repeat=LENGTH):
        previous = (3, *tokens[:-1])
        probability = math.prod(sampling[i, j] for i, j in zip(previous, tokens, strict=True))
        weights = weight(step_rewards(tokens))
        for i, j, w in zip(previous, tokens, weights, strict=True):
            total[i] += probability * w * (np.eye(VOCABULARY)[j] - pi[i])
    return total


def whole_return(rewards: np.ndarray) -> np.ndarray:
    """Return the sum of all rewards, at each step."""
    return np.full(LENGTH, rewards.sum())


def nucleus(pi: np.ndarray, top: float) -> np.ndarray:
    """Return the probabilities of top-p sampling."""
    order = np.argsort(-pi, axis=-1)
    kept = np.zeros_like(pi, dtype=bool)
    for row, places in enumerate(order):
        before = np.cumsum(pi[row, places]) - pi[row, places]
        kept[row, places[before < top]] = True
    cut = np.where(kept, pi, 0.0)
    return cut / cut.sum(-1, keepdims=True)


SEQUENCE_PI = softmax(POLICY)
SEQUENCE = policy_mean(SEQUENCE_PI, whole_return)
UNIFORM = np.full_like(POLICY, 1 / 3)
T_POLICY, J_POLICY = torch.tensor(POLICY, dtype=torch.float32), jnp.asarray(POLICY, jnp.float32)
T_TOKEN_REWARD = torch.tensor(TOKEN_REWARD, dtype=torch.float32)
J_TOKEN_REWARD = jnp.asarray(TOKEN_REWARD, jnp.float32)

# IWAE: z ~ N(0, 1), x | z ~ N(z, 1), x = 3; q = N(0.5, 1); K = 8 samples.
IWAE_X, IWAE_LOC, IWAE_K = 3.0, 0.5, 8


@functools.cache
def iwae_means() -> dict[str, np.ndarray]:
    """Return the exact means of the IWAE gradients, from E 1/(a + S) = ∫ exp(−a t) E exp(−t S) dt.

    With normalised weights w̃ and h(z) = ∂ log w / ∂z · ∂z / ∂(loc, log σ): Σ w̃ h ("sticking"), Σ w̃² h (the exact
    gradient in q), Σ w̃ z (the exact gradient in the prior's mean) and Σ w̃² z ("squared").
    """
    z = np.linspace(-11.5, 12.5, 4001)
    density = np.exp(-0.5 * (z - IWAE_LOC) ** 2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    log_w = -0.5 * z**2 - 0.5 * (IWAE_X - z) ** 2 + 0.5 * (z - IWAE_LOC) ** 2
    w = np.exp(log_w)
    w /= density @ w
    slope = -z + (IWAE_X - z) + (z - IWAE_LOC)
    h = np.stack([slope, slope * (z - IWAE_LOC)])
    sums = {name: 0.0 for name in ("sticking", "q", "prior", "squared")}
    s = np.arange(-40.0, 45.0, 0.05)
    for t in np.exp(s):
        decay = density * np.exp(-t * w)
        others = decay.sum() ** (IWAE_K - 1)
        step = 0.05 * t * others * IWAE_K
        sums["sticking"] += step * (h @ (decay * w))
        sums["q"] += step * t * (h @ (decay * w**2))
        sums["prior"] += step * (z @ (decay * w))
        sums["squared"] += step * t * (z @ (decay * w**2))
    return {name: np.atleast_1d(value) for name, value in sums.items()}


# Text of the faults ---------------------------------------------------------------------------------------------------

LEAVE_ONE_OUT = r"\(S − 1\)/S"
SCALED = r"scaled by"
ZERO_MEAN = r"mean is 0"
DIRECTION = r"direction"
REPEAT = r"repeat"
