"""Gradient estimators as users write them, wrong and right, each with its exact mean.

Every case is a small function of a key, a generator, a seed or nothing. `mean` is the exact expectation of the
estimator and `truth` the exact gradient: both are computed here in NumPy, by closed form, quadrature or enumeration,
and use no code of gradmeter.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Case:
    """An estimator, the arguments of `audit`, and the relative bias ‖E ĝ − g‖ / ‖g‖ of the estimator."""

    number: str
    framework: str
    gradient: Callable[..., Any]
    truth: np.ndarray
    mean: np.ndarray
    arguments: Mapping[str, Any]
    fault: str | None = None  # regular expression that the fault must contain
    dependent: bool = False  # the replicates are not independent, so no bias is defined

    @property
    def name(self) -> str:
        return f"{self.number}-{self.gradient.__name__}"

    @property
    def quick(self) -> bool:
        """Whether the fast tests include the case."""
        return self.gradient.__name__ in QUICK

    @property
    def bias(self) -> float:
        return float(np.linalg.norm(self.mean - self.truth) / np.linalg.norm(self.truth))


#: Cases of the fast tests: cheap ones, of every kind of randomness and of reference.
QUICK = frozenset(
    """
    covariance_numpy mean_baseline_jax grpo_numpy k3_in_the_loss_numpy k1_in_the_loss_numpy no_entropy_pathwise_torch
    scale_for_log_scale_numpy squashed_torch truncated_weights_torch floored_torch antithetic_sum_numpy sobol_torch
    batch_scale_numpy sticking_iwae_numpy gumbel_softmax_numpy straight_through_numpy attached_baseline_jax
    regressed_control_numpy masked_torch one_key_jax ignored_seed_torch off_policy_numpy standardised_numpy
    disarm_torch own_uniform_jax roulette_numpy coin_importance_torch rejection_numpy
    dropout_numpy float16_products_numpy constant_numpy rare_numpy rare_beside_noise_torch tiny_numpy huge_numpy
    """.split()  # noqa: SIM905
)
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
    **arguments: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if not REFERENCES & set(arguments):
        arguments["exact"] = truth

    def add(gradient: Callable[..., Any]) -> Callable[..., Any]:
        case = Case(
            str(number),
            framework,
            gradient,
            flatten(truth),
            flatten(mean),
            arguments,
            fault,
            dependent,
        )
        (RIGHT if isinstance(number, str) else WRONG).append(case)
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
    sums = dict.fromkeys(("sticking", "q", "prior", "squared"), 0.0)
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
ZERO_MEAN = r"mean (is )?0"
DIRECTION = r"direction"
REPEAT = r"repeat"


# 1 Leave-one-out that divides by S ------------------------------------------------------------------------------------


@wrong(1, "numpy", truth=-4.0, mean=-3.5, samples=8, fault=LEAVE_ONE_OUT)
def covariance_numpy(rng: np.random.Generator) -> Any:
    z = rng.standard_normal(8)
    f = (z - K) ** 2
    return ((f - f.mean()) * z).sum() / 8


@wrong(1, "torch", truth=-4.0, mean=-4 * 63 / 64, samples=64, fault=LEAVE_ONE_OUT)
def covariance_64_torch(generator: torch.Generator) -> Any:
    z = torch.randn(64, generator=generator)
    f = (z - K) ** 2
    return torch.mean((f - f.mean()) * z)


@wrong(1, "jax", truth=SQUARE, mean=7 / 8 * flatten(SQUARE), problem="square[k=2]", samples=8, fault=LEAVE_ONE_OUT)
def covariance_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (8, 1))
    f = (q["loc"] + jnp.exp(q["log_scale"]) * e - K) ** 2
    f = f - f.mean(0)
    return {"loc": (f * e / jnp.exp(q["log_scale"])).mean(0), "log_scale": (f * (e**2 - 1)).mean(0)}


# 2 Baseline is the mean with the sample itself ------------------------------------------------------------------------


@wrong(2, "numpy", truth=BANDIT, mean=7 / 8 * BANDIT, samples=8, fault=LEAVE_ONE_OUT)
def mean_baseline_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(4, size=8, p=P)
    r = REWARD[a]
    return ((r - r.mean())[:, None] * (np.eye(4)[a] - P)).mean(0)


@wrong(
    2,
    "torch",
    parameters=T_THETA,
    truth=BANDIT,
    mean=7 / 8 * BANDIT,
    objective=bandit_value_torch,
    samples=8,
    fault=LEAVE_ONE_OUT,
)
def mean_baseline_torch(theta: Any, generator: torch.Generator) -> Any:
    theta = theta.detach().requires_grad_()
    log_p = torch.log_softmax(theta, 0)
    a = torch.multinomial(log_p.detach().exp(), 8, replacement=True, generator=generator)
    r = T_REWARD[a]
    loss = ((r - r.mean()) * log_p[a]).mean()
    return torch.autograd.grad(loss, theta)[0]


@wrong(
    2,
    "jax",
    parameters=J_PHI,
    truth=KL_GRADIENT,
    mean=3 / 4 * KL_GRADIENT,
    objective=kl_jax,
    samples=4,
    fault=LEAVE_ONE_OUT,
)
def mean_baseline_jax(phi: Any, key: Any) -> Any:
    a = jax.random.categorical(key, phi, shape=(4,))

    def surrogate(phi: Any) -> Any:
        log_pi = jax.nn.log_softmax(phi)[a]
        cost = jax.lax.stop_gradient(log_pi - jnp.log(J_REF)[a])
        return ((cost - cost.mean()) * log_pi).mean()

    return jax.grad(surrogate)(phi)


# 3 GRPO: advantage over the group's standard deviation ----------------------------------------------------------------


@functools.cache
def grpo_mean(ddof: int, theta_bytes: bytes = THETA.tobytes()) -> Any:
    """Return the exact mean for one prompt, by enumeration of all groups of four actions."""
    theta = np.frombuffer(theta_bytes)
    p, total = softmax(theta), np.zeros(4)
    for group in itertools.product(range(4), repeat=4):
        a = np.array(group)
        r = REWARD[a]
        advantage = (r - r.mean()) / (r.std(ddof=ddof) + 1e-4)
        total += np.prod(p[a]) * (advantage[:, None] * (np.eye(4)[a] - p)).mean(0)
    return total


THETA_2 = np.array([THETA, [1.0, 0.0, -0.5, 0.2]])
T_THETA_2 = torch.tensor(THETA_2, dtype=torch.float32)


def two_prompts_value(theta: Any) -> Any:
    """Return the expected reward, averaged over two prompts."""
    return (torch.softmax(theta, 1) @ torch.as_tensor(REWARD, dtype=theta.dtype)).mean()


TWO_PROMPTS = np.stack([softmax(t) * (REWARD - softmax(t) @ REWARD) for t in THETA_2]) / 2
TWO_PROMPTS_GRPO = np.stack([grpo_mean(1, t.tobytes()) for t in THETA_2]) / 2


@wrong(3, "numpy", truth=BANDIT, mean=grpo_mean(0), samples=4, fault=SCALED)
def grpo_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(4, size=4, p=P)
    r = REWARD[a]
    advantage = (r - r.mean()) / (r.std() + 1e-4)
    return (advantage[:, None] * (np.eye(4)[a] - P)).mean(0)


@wrong(
    3,
    "torch",
    parameters=T_THETA_2,
    truth=TWO_PROMPTS,
    mean=TWO_PROMPTS_GRPO,
    objective=two_prompts_value,
    samples=4,
    fault=SCALED,
)
def grpo_two_prompts_torch(theta: Any, generator: torch.Generator) -> Any:
    theta = theta.detach().requires_grad_()
    log_p = torch.log_softmax(theta, 1)
    a = torch.multinomial(log_p.detach().exp(), 4, replacement=True, generator=generator)
    r = T_REWARD[a]
    advantage = (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-4)
    (advantage * log_p.gather(1, a)).mean().backward()
    return theta.grad


@wrong(3, "jax", parameters=J_THETA, truth=BANDIT, mean=grpo_mean(0), objective=bandit_value_jax, fault=SCALED)
def grpo_jax(theta: Any, key: Any) -> Any:
    a = jax.random.categorical(key, theta, shape=(4,))
    r = J_REWARD[a]
    advantage = (r - r.mean()) / (r.std() + 1e-4)
    return jax.grad(lambda t: (advantage * jax.nn.log_softmax(t)[a]).mean())(theta)


# 4 Mean over the tokens of each sequence ------------------------------------------------------------------------------

TOKENS = np.array([0.0, 0.4, -0.2])  # logits of stop, a, b
TOKEN_P = softmax(TOKENS)
LONGEST = 8


def _token_means() -> tuple[np.ndarray, np.ndarray]:
    """Return the exact gradient of E (number of a's), and the mean of the estimator that divides by the length."""
    exact, divided = np.zeros(3), np.zeros(3)
    for length in range(1, LONGEST + 1):
        for stopped in (True, False):
            if not stopped and length < LONGEST:
                continue
            letters = length - stopped
            for a in range(letters + 1):
                counts = np.array([stopped, a, letters - a])
                probability = math.comb(letters, a) * np.prod(TOKEN_P**counts)
                score = counts - length * TOKEN_P
                exact += probability * a * score
                divided += probability * a * score / length
    return exact, divided


TOKEN_EXACT, TOKEN_DIVIDED = _token_means()
T_TOKENS, J_TOKENS = torch.tensor(TOKENS, dtype=torch.float32), jnp.asarray(TOKENS, jnp.float32)


@wrong(4, "numpy", truth=TOKEN_EXACT, mean=TOKEN_DIVIDED, fault=DIRECTION)
def mean_over_tokens_numpy(rng: np.random.Generator) -> Any:
    tokens = []
    while len(tokens) < LONGEST and (not tokens or tokens[-1] != 0):
        tokens.append(int(rng.choice(3, p=TOKEN_P)))
    reward = tokens.count(1)
    return reward * (np.eye(3)[tokens] - TOKEN_P).mean(0)


@wrong(4, "torch", truth=TOKEN_EXACT, mean=TOKEN_DIVIDED, parameters=T_TOKENS, fault=DIRECTION)
def mean_over_tokens_torch(logits: Any, generator: torch.Generator) -> Any:
    logits = logits.detach().clone().requires_grad_()
    log_p = torch.log_softmax(logits, 0)
    tokens = torch.multinomial(log_p.detach().exp(), LONGEST, replacement=True, generator=generator)
    mask = torch.cat([torch.ones(1), (tokens != 0).float().cumprod(0)[:-1]])
    reward = (mask * (tokens == 1)).sum()
    loss = reward * (mask * log_p[tokens]).sum() / mask.sum()
    loss.backward()
    return logits.grad


@wrong(4, "jax", truth=TOKEN_EXACT, mean=TOKEN_DIVIDED, parameters=J_TOKENS, fault=DIRECTION)
def mean_over_tokens_jax(logits: Any, key: Any) -> Any:
    tokens = jax.random.categorical(key, logits, shape=(LONGEST,))
    mask = jnp.concatenate([jnp.ones(1), jnp.cumprod((tokens != 0).astype(jnp.float32))[:-1]])
    reward = (mask * (tokens == 1)).sum()

    def loss(logits: Any) -> Any:
        return reward * jnp.average(jax.nn.log_softmax(logits)[tokens], weights=mask)

    return jax.grad(loss)(logits)


# 5, 6 KL as k3, and as k1, in the loss --------------------------------------------------------------------------------


@wrong(5, "numpy", truth=KL_GRADIENT, mean=PI - REF, fault=DIRECTION)
def k3_in_the_loss_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(5, size=8, p=PI)
    ratio = REF[a] / PI[a]
    # ∇ (ratio − 1 − log ratio) = (1 − ratio) ∇ log π
    return ((1 - ratio)[:, None] * (np.eye(5)[a] - PI)).mean(0)


@wrong(5, "torch", parameters=T_PHI, truth=KL_GRADIENT, mean=PI - REF, objective=kl_torch, fault=DIRECTION)
def k3_in_the_loss_torch(phi: Any, generator: torch.Generator) -> Any:
    phi = phi.detach().requires_grad_()
    log_pi = torch.log_softmax(phi, 0)
    a = torch.multinomial(log_pi.detach().exp(), 8, replacement=True, generator=generator)
    log_ratio = T_REF.log()[a] - log_pi[a]
    (log_ratio.exp() - 1 - log_ratio).mean().backward()
    return phi.grad


@wrong(5, "jax", parameters=J_PHI, truth=KL_GRADIENT, mean=PI - REF, objective=kl_jax, fault=DIRECTION)
def k3_in_the_loss_jax(phi: Any, key: Any) -> Any:
    a = jax.random.categorical(key, phi, shape=(8,))

    def loss(phi: Any) -> Any:
        log_ratio = (jnp.log(J_REF) - jax.nn.log_softmax(phi))[a]
        return (jnp.exp(log_ratio) - 1 - log_ratio).mean()

    return jax.grad(loss)(phi)


@wrong(6, "numpy", truth=KL_GRADIENT, mean=0 * PI, fault=ZERO_MEAN)
def k1_in_the_loss_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(5, size=8, p=PI)
    return (np.eye(5)[a] - PI).mean(0)


@wrong(6, "torch", parameters=T_PHI, truth=KL_GRADIENT, mean=0 * PI, objective=kl_torch, fault=ZERO_MEAN)
def k1_in_the_loss_torch(phi: Any, generator: torch.Generator) -> Any:
    phi = phi.detach().requires_grad_()
    log_pi = torch.log_softmax(phi, 0)
    a = torch.multinomial(log_pi.detach().exp(), 8, replacement=True, generator=generator)
    (log_pi[a] - T_REF.log()[a]).mean().backward()
    return phi.grad


@wrong(6, "jax", parameters=J_PHI, truth=KL_GRADIENT, mean=0 * PI, objective=kl_jax, fault=ZERO_MEAN)
def k1_in_the_loss_jax(phi: Any, key: Any) -> Any:
    a = jax.random.categorical(key, phi, shape=(8,))
    return jax.grad(lambda t: (jax.nn.log_softmax(t) - jnp.log(J_REF))[a].mean())(phi)


# 7, 8 Entropy term missing, score function and pathwise ---------------------------------------------------------------


@wrong(
    7,
    "numpy",
    parameters=B_PARAMETERS,
    truth=ELBO,
    mean=NO_ENTROPY,
    log_density=normal_log_density,
    integrand=regression_elbo_integrand,
    fault="entropy",
)
def no_entropy_score_numpy(q: Any, rng: np.random.Generator) -> Any:
    scale = np.exp(q["log_scale"])
    e = rng.standard_normal((16, 2))
    z = q["loc"] + scale * e
    f = -0.5 * ((BY - z @ BX.T) ** 2).sum(1) - 0.5 * (z**2).sum(1)
    f = (f - (f.sum() - f) / 15)[:, None]
    return {"loc": (f * e / scale).mean(0), "log_scale": (f * (e**2 - 1)).mean(0)}


@wrong(
    7,
    "torch",
    parameters=T_PARAMETERS,
    truth=ELBO,
    mean=NO_ENTROPY,
    objective=elbo_torch,
    fault="entropy",
)
def no_entropy_score_torch(q: Any, generator: torch.Generator) -> Any:
    q = {key: value.detach().requires_grad_() for key, value in q.items()}
    scale = q["log_scale"].exp()
    z = (q["loc"] + scale * torch.randn(16, 2, generator=generator)).detach()
    x, y = torch.tensor(BX, dtype=torch.float32), torch.tensor(BY, dtype=torch.float32)
    f = -0.5 * ((y - z @ x.T) ** 2).sum(1) - 0.5 * (z**2).sum(1)
    f = f - (f.sum() - f) / 15
    log_q = torch.distributions.Normal(q["loc"], scale).log_prob(z).sum(1)
    grads = torch.autograd.grad((f * log_q).mean(), [q["loc"], q["log_scale"]])
    return dict(zip(["loc", "log_scale"], grads, strict=True))


@wrong(
    8,
    "numpy",
    parameters=B_PARAMETERS,
    truth=ELBO,
    mean=NO_ENTROPY,
    log_density=normal_log_density,
    integrand=regression_elbo_integrand,
    fault="entropy",
)
def no_entropy_pathwise_numpy(q: Any, rng: np.random.Generator) -> Any:
    scale = np.exp(q["log_scale"])
    e = rng.standard_normal((16, 2))
    z = q["loc"] + scale * e
    slope = (BY - z @ BX.T) @ BX - z
    return {"loc": slope.mean(0), "log_scale": (slope * e * scale).mean(0)}


@wrong(8, "jax", parameters=J_PARAMETERS, truth=ELBO, mean=NO_ENTROPY, objective=elbo_jax, fault="entropy")
def no_entropy_pathwise_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (16, 2))

    def bound(q: Any) -> Any:
        z = q["loc"] + jnp.exp(q["log_scale"]) * e
        x, y = jnp.asarray(BX, jnp.float32), jnp.asarray(BY, jnp.float32)
        return (-0.5 * ((y - z @ x.T) ** 2).sum(1) - 0.5 * (z**2).sum(1)).mean()

    return jax.grad(bound)(q)


@wrong(8, "torch", parameters=T_PARAMETERS, truth=ELBO, mean=NO_ENTROPY, objective=elbo_torch, fault="entropy")
def no_entropy_pathwise_torch(q: Any, generator: torch.Generator) -> Any:
    e = torch.randn(16, 2, generator=generator)
    x, y = torch.tensor(BX, dtype=torch.float32), torch.tensor(BY, dtype=torch.float32)

    def bound(q: Any) -> Any:
        z = q["loc"] + torch.exp(q["log_scale"]) * e
        return (-0.5 * ((y - z @ x.T) ** 2).sum(1) - 0.5 * (z**2).sum(1)).mean()

    return torch.func.grad(bound)(q)


# 9 Log-probability of the neighbouring sample -------------------------------------------------------------------------


@wrong(9, "numpy", truth=PAIR, mean=0 * PAIR, samples=4, fault=ZERO_MEAN)
def neighbour_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(4)
    f = (np.roll(e, 1) - K) ** 2
    return np.array([(f * e).mean(), (f * (e**2 - 1)).mean()])


@wrong(9, "torch", truth=PAIR, mean=0 * PAIR, samples=4, fault=ZERO_MEAN, parameters=torch.zeros(2))
def neighbour_torch(q: Any, generator: torch.Generator) -> Any:
    z = q[0] + q[1].exp() * torch.randn(4, generator=generator)
    f = (z - K) ** 2

    def surrogate(q: Any) -> Any:
        log_q = -0.5 * ((z - q[0]) / q[1].exp()) ** 2 - q[1]
        return (f * log_q.roll(1)).mean()

    return torch.func.grad(surrogate)(q)


@wrong(9, "jax", truth=SQUARE, mean=0 * PAIR, samples=4, problem="square[k=2]", fault=ZERO_MEAN)
def neighbour_jax(q: Any, key: Any) -> Any:
    z = q["loc"] + jnp.exp(q["log_scale"]) * jax.random.normal(key, (4, 1))

    def surrogate(q: Any) -> Any:
        log_q = jax.scipy.stats.norm.logpdf(z, q["loc"], jnp.exp(q["log_scale"]))
        return (jnp.roll((z - K) ** 2, 1, axis=0) * log_q).mean()

    return jax.grad(surrogate)(q)


# 10 ∂/∂σ returned as ∂/∂log σ -----------------------------------------------------------------------------------------

NARROW = {"loc": np.array([-4.0]), "log_scale": np.array([2 * 0.3**2])}
NARROW_WRONG = {"loc": np.array([-4.0]), "log_scale": np.array([2 * 0.3])}


@wrong(10, "numpy", truth=NARROW, mean=NARROW_WRONG, problem="square[k=2,scale=0.3]", fault="log_scale")
def scale_for_log_scale_numpy(q: Any, rng: np.random.Generator) -> Any:
    e = rng.standard_normal((8, 1))
    slope = 2 * (q["loc"] + np.exp(q["log_scale"]) * e - K)
    return {"loc": slope.mean(0), "log_scale": (slope * e).mean(0)}


@wrong(10, "torch", truth=NARROW, mean=NARROW_WRONG, fault="log_scale")
def scale_for_log_scale_torch(generator: torch.Generator) -> Any:
    loc, scale = torch.zeros(1, requires_grad=True), torch.full((1,), 0.3, requires_grad=True)
    z = loc + scale * torch.randn(8, 1, generator=generator)
    ((z - K) ** 2).mean().backward()
    return {"loc": loc.grad, "log_scale": scale.grad}


@wrong(10, "jax", truth=NARROW, mean=NARROW_WRONG, problem="square[k=2,scale=0.3]", fault="log_scale")
def scale_for_log_scale_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (8, 1))
    loss = lambda loc, scale: ((loc + scale * e - K) ** 2).mean()  # noqa: E731
    loc, scale = jax.grad(loss, (0, 1))(q["loc"], jnp.exp(q["log_scale"]))
    return {"loc": loc, "log_scale": scale}


# 11 σ detached --------------------------------------------------------------------------------------------------------


@wrong(11, "torch", truth=SQUARE, mean=[-4.0, 0.0], problem="square[k=2]", fault="log_scale is 0")
def detached_scale_torch(q: Any, generator: torch.Generator) -> Any:
    loc = q["loc"].detach().requires_grad_()
    log_scale = q["log_scale"].detach().requires_grad_()
    z = loc + log_scale.exp().detach() * torch.randn(8, 1, generator=generator)
    loss = ((z - K) ** 2).mean()
    grads = torch.autograd.grad(loss, [loc, log_scale], allow_unused=True, materialize_grads=True)
    return {"loc": grads[0], "log_scale": grads[1]}


@wrong(11, "jax", truth=SQUARE, mean=[-4.0, 0.0], problem="square[k=2]", fault="log_scale is 0")
def detached_scale_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (8, 1))
    return jax.grad(lambda q: ((q["loc"] + jax.lax.stop_gradient(jnp.exp(q["log_scale"])) * e - K) ** 2).mean())(q)


# 12 tanh squashing without its Jacobian -------------------------------------------------------------------------------

TANH_LOC, TANH_SCALE = 0.3, 0.7


def _tanh_means() -> tuple[np.ndarray, np.ndarray]:
    """Return the exact gradient of E log p(a) − log q(a), a = tanh z, and that without the Jacobian in log q."""

    def slopes(e: np.ndarray) -> np.ndarray:
        a = np.tanh(TANH_LOC + TANH_SCALE * e)
        target, jacobian = 2 * (1 - a) - (1 + a), -2 * a  # p(a) ∝ (1 + a)² (1 − a)
        return np.stack([target, target * TANH_SCALE * e, jacobian, jacobian * TANH_SCALE * e])

    m = normal_mean(slopes)
    return np.array([m[0] + m[2], m[1] + 1 + m[3]]), np.array([m[0], m[1] + 1])


TANH, TANH_WRONG = _tanh_means()
TANH_Q = {"loc": TANH_LOC, "log_scale": math.log(TANH_SCALE)}


def tanh_integrand(q: Any, z: Any) -> Any:
    """Return log p(tanh z) + log |d tanh z / dz| − log N(z), written with log cosh."""
    log_1p = math.log(2) - np.logaddexp(0, -2 * z)  # log(1 + tanh z)
    log_1m = math.log(2) - np.logaddexp(0, 2 * z)
    return (2 * log_1p + log_1m + log_1p + log_1m).sum() - normal_log_density(q, z)


@wrong(
    12,
    "numpy",
    parameters={"loc": np.array([TANH_LOC]), "log_scale": np.array([math.log(TANH_SCALE)])},
    truth={"loc": TANH[:1], "log_scale": TANH[1:]},
    mean=TANH_WRONG,
    log_density=normal_log_density,
    integrand=tanh_integrand,
    fault="score",
)
def squashed_numpy(q: Any, rng: np.random.Generator) -> Any:
    scale = np.exp(q["log_scale"])
    e = rng.standard_normal((16, 1))
    z = q["loc"] + scale * e
    a = np.tanh(z)
    f = 2 * np.log1p(a) + np.log1p(-a) + 0.5 * e**2 + q["log_scale"]
    f = f - (f.sum(0) - f) / 15
    return {"loc": (f * e / scale).mean(0), "log_scale": (f * (e**2 - 1)).mean(0)}


@wrong(12, "jax", truth=TANH, mean=TANH_WRONG, fault="score")
def squashed_jax(key: Any) -> Any:
    e = jax.random.normal(key, (16,))

    def bound(q: Any) -> Any:
        z = q[0] + jnp.exp(q[1]) * e
        a = jnp.tanh(z)
        log_q = jax.scipy.stats.norm.logpdf(z, q[0], jnp.exp(q[1]))
        return (2 * jnp.log1p(a) + jnp.log1p(-a) - log_q).mean()

    return jax.grad(bound)(jnp.array([TANH_LOC, math.log(TANH_SCALE)]))


@wrong(12, "torch", truth=TANH, mean=TANH_WRONG, fault="score")
def squashed_torch(generator: torch.Generator) -> Any:
    e = torch.randn(16, generator=generator)

    def bound(q: Any) -> Any:
        z = q[0] + q[1].exp() * e
        a = torch.tanh(z)
        log_q = -0.5 * ((z - q[0]) / q[1].exp()) ** 2 - q[1]
        return (2 * torch.log1p(a) + torch.log1p(-a) - log_q).mean()

    return torch.func.grad(bound)(torch.tensor([TANH_LOC, math.log(TANH_SCALE)]))


# 13 Gradient norm clipped at a threshold that is rarely reached -------------------------------------------------------

PARETO = 2.5 / 1.5 * np.array([1.0, 0.5])
CLIP = 8.0 * math.sqrt(1.25)  # the norm at 8 times the minimum
PARETO_CLIPPED = (2.5 - 8**-1.5) / 1.5 * np.array([1.0, 0.5])


@wrong(13, "numpy", truth=PARETO, mean=PARETO_CLIPPED, fault="tail")
def clipped_numpy(rng: np.random.Generator) -> Any:
    gradient = (1 + rng.pareto(2.5)) * np.array([1.0, 0.5])
    norm = np.linalg.norm(gradient)
    return gradient * min(1.0, CLIP / norm)


@wrong(13, "torch", truth=PARETO, mean=PARETO_CLIPPED, fault="tail")
def clipped_torch(generator: torch.Generator) -> Any:
    w = torch.zeros(2, requires_grad=True)
    x = (1 - torch.rand(1, generator=generator)) ** (-1 / 2.5)
    (x * (w @ torch.tensor([1.0, 0.5]))).sum().backward()
    torch.nn.utils.clip_grad_norm_([w], CLIP)
    return w.grad


@wrong(13, "jax", truth=PARETO, mean=PARETO_CLIPPED, fault="tail")
def clipped_jax(key: Any) -> Any:
    gradient = jax.random.pareto(key, 2.5) * jnp.array([1.0, 0.5])
    return gradient * jnp.minimum(1.0, CLIP / jnp.linalg.norm(gradient))


# 14 Importance weights truncated --------------------------------------------------------------------------------------


def _truncated_mean() -> float:
    """Return ∫ N(z; 0, 2²) min(w, 1) (z − 2)² z dz, w = N(z; 0, 1) / N(z; 0, 2²)."""
    edge = math.sqrt(8 * math.log(2) / 3)

    def inside(z: float) -> float:
        return float(stats.norm.pdf(z, 0, 2) * (z - K) ** 2 * z)

    def outside(z: float) -> float:
        return float(stats.norm.pdf(z) * (z - K) ** 2 * z)

    return (
        integrate.quad(inside, -edge, edge)[0]
        + integrate.quad(outside, edge, 15)[0]
        + integrate.quad(outside, -15, -edge)[0]
    )


@wrong(14, "numpy", truth=-4.0, mean=_truncated_mean(), fault=SCALED)
def truncated_weights_numpy(rng: np.random.Generator) -> Any:
    z = 2 * rng.standard_normal(8)
    w = 2 * np.exp(-0.5 * z**2 + 0.125 * z**2)
    return (np.minimum(w, 1.0) * (z - K) ** 2 * z).mean()


@wrong(14, "torch", truth=-4.0, mean=_truncated_mean(), fault=SCALED)
def truncated_weights_torch(generator: torch.Generator) -> Any:
    z = 2 * torch.randn(8, generator=generator)
    q, proposal = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 2.0)
    w = (q.log_prob(z) - proposal.log_prob(z)).exp().clamp(max=1.0)
    return (w * (z - K) ** 2 * z).mean()


@wrong(14, "jax", truth=-4.0, mean=_truncated_mean(), fault=SCALED)
def truncated_weights_jax(key: Any) -> Any:
    z = 2 * jax.random.normal(key, (8,))
    w = jnp.exp(jax.scipy.stats.norm.logpdf(z) - jax.scipy.stats.norm.logpdf(z, 0, 2))
    return (jnp.minimum(w, 1) * (z - K) ** 2 * z).mean()


# 15 z truncated to float16; gradients floored to 2^-4 -----------------------------------------------------------------


def _float16_mean(k: float) -> float:
    """Return E 2 (trunc(z) − k), z ~ N(8, 1), where trunc rounds toward zero to 11 bits."""
    edges = np.concatenate([np.arange(1, 2, 2**-10), np.arange(2, 4, 2**-9), np.arange(4, 8, 2**-8)])
    edges = np.concatenate([edges, np.arange(8, 17, 2**-7)])
    mass = np.diff(stats.norm.cdf(edges, 8, 1))
    return float(2 * (mass @ edges[:-1] / mass.sum() - k))


def _floored_mean(k: float) -> float:
    """Return E of 2 (z − k) floored to multiples of 1/16, z ~ N(8, 1)."""
    edges = np.arange(-30, 30, 1 / 16)
    return float(np.diff(stats.norm.cdf(edges, 2 * (8 - k), 2)) @ edges[:-1])


CENTERS = np.array([7.9, 8.1, 7.95])
OFFSET = 2 * (8 - CENTERS)
FLOAT16 = np.array([_float16_mean(k) for k in CENTERS])
FLOORED = np.array([_floored_mean(k) for k in CENTERS])


@wrong(15, "numpy", truth=OFFSET, mean=FLOAT16, fault="constant|offset|same amount")
def float16_numpy(rng: np.random.Generator) -> Any:
    z = (8 + rng.standard_normal((64, 3))).astype(np.float32)
    z = (z.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)  # keep the bits that float16 has
    return np.mean(2 * (z.astype(np.float64) - CENTERS), axis=0)


@wrong(15, "torch", truth=OFFSET, mean=FLOORED, fault="constant|offset|same amount")
def floored_torch(generator: torch.Generator) -> Any:
    slope = 2 * (8 + torch.randn(64, 3, generator=generator) - torch.tensor(CENTERS, dtype=torch.float32))
    return (torch.floor(slope * 16) / 16).mean(0)


@wrong(15, "jax", truth=OFFSET, mean=FLOAT16, fault="constant|offset|same amount")
def float16_jax(key: Any) -> Any:
    z = 8 + jax.random.normal(key, (64, 3))
    z = (z.view(jnp.uint32) & jnp.uint32(0xFFFFE000)).view(jnp.float32)
    return jnp.mean(2 * (z - jnp.asarray(CENTERS, jnp.float32)), axis=0)


# 16 Antithetic pair, the odd part with the wrong sign -----------------------------------------------------------------


@wrong(16, "numpy", truth=SQUARE, mean=[0.0, 2.0], problem="square[k=2]", fault="loc (is|has mean) 0")
def antithetic_sum_numpy(q: Any, rng: np.random.Generator) -> Any:
    scale = np.exp(q["log_scale"])
    e = rng.standard_normal(1)
    plus, minus = (q["loc"] + scale * e - K) ** 2, (q["loc"] - scale * e - K) ** 2
    return {"loc": (plus + minus) / 2 * e / scale, "log_scale": (plus + minus) / 2 * (e**2 - 1)}


@wrong(16, "torch", truth=SQUARE, mean=[4.0, 2.0], problem="square[k=2]", fault="loc")
def antithetic_sign_torch(q: Any, generator: torch.Generator) -> Any:
    scale = q["log_scale"].exp()
    e = torch.randn(4, 1, generator=generator)
    plus, minus = (q["loc"] + scale * e - K) ** 2, (q["loc"] - scale * e - K) ** 2
    loc = (minus - plus) / 2 * e / scale
    return {"loc": loc.mean(0), "log_scale": ((plus + minus) / 2 * (e**2 - 1)).mean(0)}


@wrong(16, "jax", truth=PAIR, mean=[-4.0, 0.0], fault=r"\[1\]|gradient")
def antithetic_pathwise_jax(key: Any) -> Any:
    e = jax.random.normal(key, (4,))
    plus, minus = 2 * (e - K), 2 * (-e - K)
    return jnp.stack([((plus + minus) / 2).mean(), ((plus + minus) / 2 * e).mean()])


# 17 Unscrambled Sobol points, the same for all replicates -------------------------------------------------------------

SOBOL = stats.norm.ppf(qmc.Sobol(1, scramble=False).random_base2(5)[1:, 0])
SOBOL_MEAN = 2 * ((SOBOL - K) * SOBOL).mean()


@wrong(17, "numpy", truth=2.0, mean=SOBOL_MEAN, dependent=True, fault=REPEAT)
def sobol_numpy(rng: np.random.Generator) -> Any:
    z = stats.norm.ppf(qmc.Sobol(1, scramble=False).random(32)[1:, 0])
    return (2 * (z - K) * z).mean()


@wrong(17, "torch", truth=2.0, mean=SOBOL_MEAN, dependent=True, fault=REPEAT)
def sobol_torch(generator: torch.Generator) -> Any:
    u = torch.quasirandom.SobolEngine(1).draw(32)[1:, 0]
    z = torch.special.ndtri(u)
    return (2 * (z - K) * z).mean()


# 18, 19 Minibatch scale N/(n − 1); plate scale counted twice ----------------------------------------------------------


@wrong(18, "numpy", truth=REGRESSION, mean=1.25 * REGRESSION, fault=SCALED)
def batch_scale_numpy(rng: np.random.Generator) -> Any:
    rows = rng.choice(20, size=5, replace=False)
    x, y = X[rows], Y[rows]
    return -x.T @ (y - x @ W) * 20 / 4


@wrong(
    18,
    "torch",
    parameters=T_W,
    truth=REGRESSION,
    mean=1.25 * REGRESSION,
    objective=regression_loss_torch,
    fault=SCALED,
)
def batch_scale_torch(w: Any, generator: torch.Generator) -> Any:
    w = w.detach().requires_grad_()
    rows = torch.randperm(20, generator=generator)[:5]
    loss = 0.5 * ((T_Y[rows] - T_X[rows] @ w) ** 2).sum() * 20 / (5 - 1)
    loss.backward()
    return w.grad


@wrong(18, "jax", parameters=J_W, truth=REGRESSION, mean=1.25 * REGRESSION, objective=regression_loss_jax, fault=SCALED)
def batch_scale_jax(w: Any, key: Any) -> Any:
    rows = jax.random.choice(key, 20, (5,), replace=False)
    return jax.grad(lambda w: 0.5 * ((J_Y[rows] - J_X[rows] @ w) ** 2).sum() * 20 / (5 - 1))(w)


@wrong(
    19,
    "numpy",
    parameters=W,
    truth=REGRESSION,
    mean=4 * REGRESSION,
    objective=regression_loss_numpy,
    fault=SCALED,
)
def plate_twice_numpy(w: Any, rng: np.random.Generator) -> Any:
    rows = rng.integers(20, size=5)
    x, y = X[rows], Y[rows]
    return -x.T @ (y - x @ w) * (20 / 5) * (20 / 5)


@wrong(
    19,
    "jax",
    parameters=J_W,
    truth=REGRESSION,
    mean=4 * REGRESSION,
    objective=regression_loss_jax,
    fault=SCALED,
)
def plate_twice_jax(w: Any, key: Any) -> Any:
    rows = jax.random.randint(key, (5,), 0, 20)
    plate = lambda terms: terms.sum() * 20 / 5  # noqa: E731
    return 4 * jax.grad(lambda w: 0.5 * plate((J_Y[rows] - J_X[rows] @ w) ** 2))(w)


# 20, 21 Sticking the landing on the IWAE bound; squared weights on the model's gradient -------------------------------

_IWAE = iwae_means()


@wrong(20, "numpy", truth=_IWAE["q"], mean=_IWAE["sticking"], samples=8)
def sticking_iwae_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(8)
    z = IWAE_LOC + e
    log_w = -0.5 * z**2 - 0.5 * (IWAE_X - z) ** 2 + 0.5 * e**2
    w = softmax(log_w)
    slope = -z + (IWAE_X - z) + e
    return np.array([w @ slope, w @ (slope * e)])


@wrong(20, "torch", truth=_IWAE["q"], mean=_IWAE["sticking"], samples=8)
def sticking_iwae_torch(generator: torch.Generator) -> Any:
    q = torch.tensor([IWAE_LOC, 0.0], requires_grad=True)
    z = q[0] + q[1].exp() * torch.randn(8, generator=generator)
    fixed = q.detach()
    log_q = torch.distributions.Normal(fixed[0], fixed[1].exp()).log_prob(z)
    log_w = -0.5 * z**2 - 0.5 * (IWAE_X - z) ** 2 - log_q
    return torch.autograd.grad(torch.logsumexp(log_w, 0), q)[0]


@wrong(20, "jax", truth=_IWAE["q"], mean=_IWAE["sticking"], samples=8)
def sticking_iwae_jax(key: Any) -> Any:
    e = jax.random.normal(key, (8,))

    def bound(q: Any) -> Any:
        z = q[0] + jnp.exp(q[1]) * e
        fixed = jax.lax.stop_gradient(q)
        log_q = jax.scipy.stats.norm.logpdf(z, fixed[0], jnp.exp(fixed[1]))
        return jax.nn.logsumexp(-0.5 * z**2 - 0.5 * (IWAE_X - z) ** 2 - log_q)

    return jax.grad(bound)(jnp.array([IWAE_LOC, 0.0]))


@wrong(21, "numpy", truth=_IWAE["prior"], mean=_IWAE["squared"], samples=8)
def squared_weights_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(8)
    z = IWAE_LOC + e
    w = softmax(-0.5 * z**2 - 0.5 * (IWAE_X - z) ** 2 + 0.5 * e**2)
    return np.array([(w**2 * z).sum()])


@wrong(21, "jax", truth=_IWAE["prior"], mean=_IWAE["squared"], samples=8)
def squared_weights_jax(key: Any) -> Any:
    e = jax.random.normal(key, (8,))
    z = IWAE_LOC + e
    w = jax.nn.softmax(-0.5 * z**2 - 0.5 * (IWAE_X - z) ** 2 + 0.5 * e**2)
    log_prior = lambda m: (w**2 * -0.5 * (z - m) ** 2).sum()  # noqa: E731
    return jax.grad(log_prior)(0.0)[None]


# 22, 23 Gumbel-softmax at 0.5, straight-through -----------------------------------------------------------------------

SCORES = np.array([1.0, 0.2, -0.5])
RELAXED_LOGITS = np.array([0.2, 0.0, -0.6])
RELAXED_EXACT = softmax(RELAXED_LOGITS) * (SCORES - softmax(RELAXED_LOGITS) @ SCORES)


def _relaxed_mean() -> np.ndarray:
    """Return E ∇ Σ c softmax((θ + G)/0.5), from the density of two differences of Gumbel variables."""
    step = 0.2  # exact to rounding: the integrand is analytic within π/2 of the real axes
    grid = np.arange(-40, 40, step)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    density = 2 * np.exp(-a - b - 3 * np.logaddexp(0, np.logaddexp(-a, -b))) * step**2
    y = softmax(np.stack([a, b, np.zeros_like(a)], -1) / 0.5 + RELAXED_LOGITS / 0.5)
    slope = y * (SCORES - (y @ SCORES)[..., None]) / 0.5
    return np.tensordot(density, slope, 2)


RELAXED = _relaxed_mean()


@wrong(22, "numpy", truth=RELAXED_EXACT, mean=RELAXED)
def gumbel_softmax_numpy(rng: np.random.Generator) -> Any:
    y = softmax((RELAXED_LOGITS + rng.gumbel(size=(8, 3))) / 0.5)
    return (y * (SCORES - (y @ SCORES)[:, None]) / 0.5).mean(0)


@wrong(22, "torch", truth=RELAXED_EXACT, mean=RELAXED, rng="global")
def gumbel_softmax_torch() -> Any:
    logits = torch.tensor(RELAXED_LOGITS, dtype=torch.float32, requires_grad=True)
    y = torch.nn.functional.gumbel_softmax(logits.expand(8, 3), tau=0.5)
    (y @ torch.tensor(SCORES, dtype=torch.float32)).mean().backward()
    return logits.grad


@wrong(22, "jax", truth=RELAXED_EXACT, mean=RELAXED)
def gumbel_softmax_jax(key: Any) -> Any:
    g = jax.random.gumbel(key, (8, 3))
    value = lambda logits: (jax.nn.softmax((logits + g) / 0.5) @ jnp.asarray(SCORES)).mean()  # noqa: E731
    return jax.grad(value)(jnp.asarray(RELAXED_LOGITS))


CODE = np.array([1.0, -0.5, 0.3, 0.8, -1.0])  # f(y) = (code · y)²
_JACOBIAN = np.diag(PI) - np.outer(PI, PI)
THROUGH_EXACT = _JACOBIAN @ CODE**2
THROUGH = _JACOBIAN @ CODE * 2 * (PI @ CODE)


@wrong(23, "numpy", truth=THROUGH_EXACT, mean=THROUGH)
def straight_through_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(5, size=8, p=PI)
    return (_JACOBIAN @ (2 * CODE[a][:, None] * CODE).T).mean(1)


def code_value_torch(phi: Any) -> Any:
    """Return E f."""
    return torch.softmax(phi, 0) @ torch.as_tensor(CODE, dtype=phi.dtype) ** 2


@wrong(23, "torch", parameters=T_PHI, truth=THROUGH_EXACT, mean=THROUGH, objective=code_value_torch)
def straight_through_torch(phi: Any, generator: torch.Generator) -> Any:
    phi = phi.detach().requires_grad_()
    p = torch.softmax(phi, 0)
    a = torch.multinomial(p.detach(), 8, replacement=True, generator=generator)
    hard = torch.nn.functional.one_hot(a, 5).float()
    y = hard + p - p.detach()
    ((y @ torch.tensor(CODE, dtype=torch.float32)) ** 2).mean().backward()
    return phi.grad


@wrong(23, "jax", parameters=J_PHI, truth=THROUGH_EXACT, mean=THROUGH)
def straight_through_jax(phi: Any, key: Any) -> Any:
    hard = jax.nn.one_hot(jax.random.categorical(key, phi, shape=(8,)), 5)

    def value(phi: Any) -> Any:
        p = jax.nn.softmax(phi)
        return ((((hard - jax.lax.stop_gradient(p)) + p) @ jnp.asarray(CODE, jnp.float32)) ** 2).mean()

    return jax.grad(value)(phi)


# 24 Baseline that depends on the parameters, without stop-gradient ----------------------------------------------------

ENTROPY = float(-P @ np.log(P))


@wrong(
    24,
    "torch",
    parameters=T_THETA,
    truth=BANDIT,
    mean=(1 + ENTROPY) * BANDIT,
    objective=bandit_value_torch,
)
def attached_baseline_torch(theta: Any, generator: torch.Generator) -> Any:
    theta = theta.detach().requires_grad_()
    p = torch.softmax(theta, 0)
    a = torch.multinomial(p.detach(), 8, replacement=True, generator=generator)
    baseline = p @ T_REWARD
    ((T_REWARD[a] - baseline) * p[a].log()).mean().backward()
    return theta.grad


@wrong(24, "jax", parameters=J_THETA, truth=BANDIT, mean=(1 + ENTROPY) * BANDIT, objective=bandit_value_jax)
def attached_baseline_jax(theta: Any, key: Any) -> Any:
    a = jax.random.categorical(key, theta, shape=(8,))

    def surrogate(theta: Any) -> Any:
        log_p = jax.nn.log_softmax(theta)
        return ((J_REWARD[a] - jnp.exp(log_p) @ J_REWARD) * log_p[a]).mean()

    return jax.grad(surrogate)(theta)


# 25 Score function that also differentiates the sampler ---------------------------------------------------------------


def _attached_mean() -> np.ndarray:
    """Return the mean of ∇ [f(z) log q(z)] where both differentiate through z."""
    constant = 0.5 * math.log(2 * math.pi)

    def terms(e: np.ndarray) -> np.ndarray:
        log_q = -0.5 * e**2 - constant
        return np.stack([2 * (e - K) * log_q, 2 * (e - K) * e * log_q - (e - K) ** 2])

    return normal_mean(terms)


@wrong(25, "torch", truth=SQUARE, mean=[0.0, -5.0], problem="square[k=2]")
def rsample_torch(q: Any, generator: torch.Generator) -> Any:
    q = {key: value.detach().requires_grad_() for key, value in q.items()}
    z = q["loc"] + q["log_scale"].exp() * torch.randn(8, 1, generator=generator)
    log_q = torch.distributions.Normal(q["loc"], q["log_scale"].exp()).log_prob(z)
    (((z - K) ** 2).detach() * log_q).mean().backward()
    return {key: value.grad for key, value in q.items()}


@wrong(25, "jax", truth=SQUARE, mean=_attached_mean(), problem="square[k=2]")
def reparametrised_score_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (8, 1))

    def surrogate(q: Any) -> Any:
        z = q["loc"] + jnp.exp(q["log_scale"]) * e
        return ((z - K) ** 2 * jax.scipy.stats.norm.logpdf(z, q["loc"], jnp.exp(q["log_scale"]))).mean()

    return jax.grad(surrogate)(q)


# 26 Control-variate coefficient from the same samples -----------------------------------------------------------------


@wrong(26, "numpy", truth=-4.0, mean=-3.0, samples=8)
def regressed_control_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(8)
    h = (e - K) ** 2 * e
    coefficient = np.cov(h, e)[0, 1] / e.var(ddof=1)
    return h.mean() - coefficient * e.mean()


@wrong(26, "torch", truth=-4.0, mean=-3.0, samples=8)
def regressed_control_torch(generator: torch.Generator) -> Any:
    e = torch.randn(8, generator=generator)
    h = (e - K) ** 2 * e
    d = e - e.mean()
    return h.mean() - (h * d).sum() / (d * d).sum() * e.mean()


@wrong(26, "jax", truth=-4.0, mean=-3.0, samples=8)
def regressed_control_jax(key: Any) -> Any:
    e = jax.random.normal(key, (8,))
    h = (e - K) ** 2 * e
    return h.mean() - jnp.cov(h, e)[0, 1] / jnp.var(e, ddof=1) * e.mean()


# 27 One ε for all coordinates -----------------------------------------------------------------------------------------

SHARED_EXACT = {"loc": [-4.0, -4.0], "log_scale": [2.0, 2.0]}  # f(z) = Σ (z − 2)² + 2 z₁ z₂
SHARED = {"loc": [-4.0, -4.0], "log_scale": [4.0, 4.0]}


def interaction(z: Any) -> Any:
    """Return Σ (z − 2)² + 2 z₁ z₂."""
    return ((z - K) ** 2).sum() + 2 * z[0] * z[1]


@wrong(
    27,
    "numpy",
    parameters={"loc": np.zeros(2), "log_scale": np.zeros(2)},
    truth=SHARED_EXACT,
    mean=SHARED,
    log_density=normal_log_density,
    integrand=interaction,
)
def shared_noise_numpy(q: Any, rng: np.random.Generator) -> Any:
    e = rng.standard_normal()
    z = q["loc"] + np.exp(q["log_scale"]) * e
    slope = 2 * (z - K) + 2 * z[::-1]
    return {"loc": slope, "log_scale": slope * e * np.exp(q["log_scale"])}


@wrong(
    27,
    "jax",
    parameters={"loc": jnp.zeros(2), "log_scale": jnp.zeros(2)},
    truth=SHARED_EXACT,
    mean=SHARED,
    exact={key: np.array(value) for key, value in SHARED_EXACT.items()},
)
def shared_noise_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key)
    return jax.grad(lambda q: interaction(q["loc"] + jnp.exp(q["log_scale"]) * e))(q)


# 28 Advantage standardised over all replicates ------------------------------------------------------------------------


class RunningMoments:
    """Mean and standard deviation of all rewards so far."""

    def __init__(self) -> None:
        self.rewards: list[float] = []

    def standardise(self, reward: float) -> float:
        self.rewards.append(reward)
        recent = np.array(self.rewards[-1000:])
        return float((reward - recent.mean()) / (recent.std() + 1e-4))


_MOMENTS = RunningMoments()


@wrong(28, "numpy", truth=BANDIT, mean=BANDIT, dependent=True)
def standardised_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(4, p=P)
    return _MOMENTS.standardise(REWARD[a]) * (np.eye(4)[a] - P)


_T_REWARDS: list[Any] = []


@wrong(28, "torch", truth=BANDIT, mean=BANDIT, dependent=True)
def standardised_torch(generator: torch.Generator) -> Any:
    a = torch.multinomial(torch.softmax(T_THETA, 0), 1, generator=generator)
    _T_REWARDS.append(T_REWARD[a])
    recent = torch.cat(_T_REWARDS[-1000:])
    advantage = (T_REWARD[a] - recent.mean()) / (recent.std(correction=0) + 1e-4)
    return advantage * (torch.nn.functional.one_hot(a[0], 4) - torch.softmax(T_THETA, 0))


# 29–31 Sequence policy: no ratio, top-p, wrong return -----------------------------------------------------------------


def sample_numpy(rng: np.random.Generator, rows: np.ndarray) -> list[int]:
    """Draw a sequence, each token given the one before it."""
    tokens, previous = [], 3
    for _ in range(LENGTH):
        previous = int(rng.choice(VOCABULARY, p=rows[previous]))
        tokens.append(previous)
    return tokens


def weighted_scores(tokens: list[int], weights: np.ndarray) -> np.ndarray:
    """Return Σ_t weight_t ∇ log π(token_t)."""
    gradient, previous = np.zeros_like(POLICY), 3
    for token, weight in zip(tokens, weights, strict=True):
        gradient[previous] += weight * (np.eye(VOCABULARY)[token] - SEQUENCE_PI[previous])
        previous = token
    return gradient


def sample_torch(generator: torch.Generator, rows: Any) -> Any:
    """Draw a sequence, each token given the one before it; also return the tokens before."""
    tokens, previous = [], 3
    for _ in range(LENGTH):
        previous = int(torch.multinomial(rows[previous], 1, generator=generator))
        tokens.append(previous)
    return torch.tensor(tokens), torch.tensor([3, *tokens[:-1]])


def sample_jax(key: Any, logits: Any) -> Any:
    """Draw a sequence, each token given the one before it; also return the tokens before."""

    def step(previous: Any, key: Any) -> Any:
        token = jax.random.categorical(key, logits[previous])
        return token, (token, previous)

    return jax.lax.scan(step, jnp.array(3), jax.random.split(key, LENGTH))[1]


def rewards_torch(tokens: Any) -> Any:
    """Return the reward of each step."""
    repeated = torch.cat([torch.zeros(1), (tokens[1:] == tokens[:-1]).float()])
    return T_TOKEN_REWARD[tokens] + REPEAT_REWARD * repeated


def rewards_jax(tokens: Any) -> Any:
    """Return the reward of each step."""
    repeated = jnp.concatenate([jnp.zeros(1), (tokens[1:] == tokens[:-1]).astype(jnp.float32)])
    return J_TOKEN_REWARD[tokens] + REPEAT_REWARD * repeated


def sequence_value(policy: Any) -> Any:
    """Return the expected return, by recursion over the steps."""
    pi = torch.softmax(policy, 1)
    reward = torch.as_tensor(TOKEN_REWARD, dtype=pi.dtype)
    state, total = pi[3], pi[3] @ reward
    for _ in range(LENGTH - 1):
        total = total + REPEAT_REWARD * (state * pi[:3].diagonal()).sum() + (state @ pi[:3]) @ reward
        state = state @ pi[:3]
    return total


def sequence_value_jax(policy: Any) -> Any:
    """Return the expected return, by recursion over the steps."""
    pi = jax.nn.softmax(policy, 1)
    reward = jnp.asarray(TOKEN_REWARD)
    state, total = pi[3], pi[3] @ reward
    for _ in range(LENGTH - 1):
        total = total + REPEAT_REWARD * (state * jnp.diagonal(pi[:3])).sum() + (state @ pi[:3]) @ reward
        state = state @ pi[:3]
    return total


OFF_POLICY = policy_mean(UNIFORM, whole_return)
TOP_P = policy_mean(nucleus(SEQUENCE_PI, 0.6), whole_return)
LATE_RETURN = policy_mean(SEQUENCE_PI, lambda r: r[::-1].cumsum()[::-1] - r)


@wrong(29, "numpy", truth=SEQUENCE, mean=OFF_POLICY)
def off_policy_numpy(rng: np.random.Generator) -> Any:
    tokens = sample_numpy(rng, UNIFORM)
    return weighted_scores(tokens, whole_return(step_rewards(tokens)))


@wrong(29, "jax", parameters=J_POLICY, truth=SEQUENCE, mean=OFF_POLICY, objective=sequence_value_jax)
def off_policy_jax(policy: Any, key: Any) -> Any:
    tokens, previous = sample_jax(key, jnp.zeros((4, 3)))
    log_pi = lambda policy: jax.nn.log_softmax(policy, 1)[previous, tokens].sum()  # noqa: E731
    return jax.grad(lambda policy: rewards_jax(tokens).sum() * log_pi(policy))(policy)


@wrong(30, "numpy", truth=SEQUENCE, mean=TOP_P)
def top_p_numpy(rng: np.random.Generator) -> Any:
    tokens = sample_numpy(rng, nucleus(SEQUENCE_PI, 0.6))
    return weighted_scores(tokens, whole_return(step_rewards(tokens)))


@wrong(30, "torch", parameters=T_POLICY, truth=SEQUENCE, mean=TOP_P, objective=sequence_value)
def top_p_torch(policy: Any, generator: torch.Generator) -> Any:
    policy = policy.detach().requires_grad_()
    pi = torch.softmax(policy.detach(), 1)
    ordered, places = pi.sort(1, descending=True)
    ordered[(ordered.cumsum(1) - ordered) >= 0.6] = 0
    tokens, previous = sample_torch(generator, torch.zeros_like(pi).scatter(1, places, ordered))
    log_pi = torch.log_softmax(policy, 1)[previous, tokens]
    (rewards_torch(tokens).sum() * log_pi.sum()).backward()
    return policy.grad


@wrong(31, "numpy", truth=SEQUENCE, mean=LATE_RETURN)
def late_return_numpy(rng: np.random.Generator) -> Any:
    tokens = sample_numpy(rng, SEQUENCE_PI)
    rewards = step_rewards(tokens)
    return weighted_scores(tokens, np.array([rewards[t + 1 :].sum() for t in range(LENGTH)]))


@wrong(31, "jax", parameters=J_POLICY, truth=SEQUENCE, mean=LATE_RETURN, objective=sequence_value_jax)
def late_return_jax(policy: Any, key: Any) -> Any:
    tokens, previous = sample_jax(key, policy)
    rewards = rewards_jax(tokens)
    to_go = jnp.cumsum(rewards[::-1])[::-1]
    to_go = jnp.concatenate([to_go[1:], jnp.zeros(1)])
    return jax.grad(lambda policy: (to_go * jax.nn.log_softmax(policy, 1)[previous, tokens]).sum())(policy)


# 32 KL in the other direction -----------------------------------------------------------------------------------------


@wrong(32, "numpy", truth=KL_GRADIENT, mean=PI - REF)
def other_kl_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(5, size=8, p=REF)
    return -(np.eye(5)[a] - PI).mean(0)


@wrong(32, "torch", parameters=T_PHI, truth=KL_GRADIENT, mean=PI - REF, objective=kl_torch)
def other_kl_torch(phi: Any, generator: torch.Generator) -> Any:
    phi = phi.detach().requires_grad_()
    a = torch.multinomial(T_REF, 8, replacement=True, generator=generator)
    torch.nn.functional.kl_div(torch.log_softmax(phi, 0)[a], T_REF.log()[a], log_target=True, reduction="none")
    loss = (T_REF.log()[a] - torch.log_softmax(phi, 0)[a]).mean()
    loss.backward()
    return phi.grad


@wrong(32, "jax", parameters=J_PHI, truth=KL_GRADIENT, mean=PI - REF, objective=kl_jax)
def other_kl_jax(phi: Any, key: Any) -> Any:
    a = jax.random.categorical(key, jnp.log(J_REF), shape=(8,))
    return jax.grad(lambda phi: (jnp.log(J_REF)[a] - jax.nn.log_softmax(phi)[a]).mean())(phi)


# 33 Sampling at temperature 0.99, log-probability at 1 ----------------------------------------------------------------

COLD_REWARD = 3 + CODE
COLD_PI = softmax(PHI / 0.99)
COLD_EXACT = PI * (COLD_REWARD - PI @ COLD_REWARD)
COLD = COLD_PI * COLD_REWARD - (COLD_PI @ COLD_REWARD) * PI


@wrong(33, "numpy", truth=COLD_EXACT, mean=COLD, fault=r"^(?!.*alone)")
def temperature_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(5, size=16, p=COLD_PI)
    return (COLD_REWARD[a][:, None] * (np.eye(5)[a] - PI)).mean(0)


@wrong(33, "jax", parameters=J_PHI, truth=COLD_EXACT, mean=COLD, fault=r"^(?!.*alone)")
def temperature_jax(phi: Any, key: Any) -> Any:
    a = jax.random.categorical(key, phi / 0.99, shape=(64,))
    reward = jnp.asarray(COLD_REWARD, jnp.float32)[a]
    return jax.grad(lambda phi: (reward * jax.nn.log_softmax(phi)[a]).mean())(phi)


# 34 Factor 1.005 ------------------------------------------------------------------------------------------------------


@wrong(34, "numpy", truth=-4.0, mean=-4.02, bias_bound=0.002, fault=SCALED)
def half_a_percent_numpy(rng: np.random.Generator) -> Any:
    z = rng.standard_normal(64)
    return 1.005 * (2 * (z - K)).mean()


@wrong(34, "torch", truth=SQUARE, mean=1.005 * PAIR, problem="square[k=2]", bias_bound=0.002, fault=SCALED)
def half_a_percent_torch(q: Any, generator: torch.Generator) -> Any:
    e = torch.randn(256, 1, generator=generator)
    return torch.func.grad(lambda q: 1.005 * ((q["loc"] + q["log_scale"].exp() * e - K) ** 2).mean())(q)


@wrong(34, "jax", truth=SQUARE, mean=1.005 * PAIR, problem="square[k=2]", bias_bound=0.002, fault=SCALED)
def half_a_percent_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (256, 1))
    return jax.grad(lambda q: 1.005 * ((q["loc"] + jnp.exp(q["log_scale"]) * e - K) ** 2).mean())(q)


# 35 Mean over a mask that depends on f, renormalised ------------------------------------------------------------------


def _masked_mean(threshold: float) -> float:
    """Return E of the mean over {f < threshold} of 2 (z − 2), zero where the set of eight is empty."""
    low, high = K - math.sqrt(threshold), K + math.sqrt(threshold)
    kept = stats.norm.cdf(high) - stats.norm.cdf(low)
    inside = (stats.norm.pdf(low) - stats.norm.pdf(high)) / kept
    return float((1 - (1 - kept) ** 8) * 2 * (inside - K))


@wrong(35, "numpy", truth=-4.0, mean=_masked_mean(6.0))
def masked_numpy(rng: np.random.Generator) -> Any:
    z = rng.standard_normal(8)
    mask = (z - K) ** 2 < 6
    return 2 * (z[mask] - K).mean() if mask.any() else 0.0


@wrong(35, "torch", truth=-4.0, mean=_masked_mean(6.0))
def masked_torch(generator: torch.Generator) -> Any:
    z = torch.randn(8, generator=generator)
    mask = ((z - K) ** 2 < 6).float()
    return (mask * 2 * (z - K)).sum() / mask.sum().clamp(min=1)


@wrong(35, "jax", truth=-4.0, mean=_masked_mean(6.0))
def masked_jax(key: Any) -> Any:
    z = jax.random.normal(key, (8,))
    mask = (z - K) ** 2 < 6
    return jnp.where(mask, 2 * (z - K), 0).sum() / jnp.maximum(mask.sum(), 1)


# 36, 37 One key for all calls; the seed ignored -----------------------------------------------------------------------


@wrong(36, "jax", truth=-4.0, mean=-4.0, dependent=True, fault=REPEAT)
def one_key_jax(key: Any) -> Any:
    return (2 * (jax.random.normal(jax.random.PRNGKey(0), (8,)) - K)).mean()


@wrong(36, "numpy", truth=-4.0, mean=-4.0, dependent=True, fault=REPEAT)
def one_generator_numpy(rng: np.random.Generator) -> Any:
    rng = np.random.default_rng(0)
    return (2 * (rng.standard_normal(8) - K)).mean()


@wrong(37, "torch", truth=-4.0, mean=-4.0, dependent=True, fault=REPEAT)
def ignored_seed_torch(seed: int) -> Any:
    generator = torch.Generator().manual_seed(42)
    return (2 * (torch.randn(8, generator=generator) - K)).mean()


@wrong(37, "numpy", truth=-4.0, mean=-4.0, dependent=True, fault=REPEAT)
def ignored_seed_numpy(seed: int) -> Any:
    rng = np.random.RandomState(42)
    return (2 * (rng.randn(8) - K)).mean()


# 38 Moving-average baseline that contains the current sample ----------------------------------------------------------


@wrong(38, "numpy", truth=BANDIT, mean=0.9 * BANDIT, fault=SCALED)
def moving_average_numpy(rng: np.random.Generator) -> Any:
    baseline, total = 0.4, np.zeros(4)
    for a in rng.choice(4, size=4, p=P):
        baseline += 0.1 * (REWARD[a] - baseline)
        total += (REWARD[a] - baseline) * (np.eye(4)[a] - P)
    return total / 4


@wrong(38, "torch", parameters=T_THETA, truth=BANDIT, mean=0.9 * BANDIT, objective=bandit_value_torch, fault=SCALED)
def moving_average_torch(theta: Any, generator: torch.Generator) -> Any:
    theta = theta.detach().requires_grad_()
    log_p = torch.log_softmax(theta, 0)
    baseline, loss = torch.tensor(0.4), torch.tensor(0.0)
    for a in torch.multinomial(log_p.detach().exp(), 4, replacement=True, generator=generator):
        baseline = 0.9 * baseline + 0.1 * T_REWARD[a]
        loss = loss + (T_REWARD[a] - baseline) * log_p[a]
    (loss / 4).backward()
    return theta.grad


@wrong(38, "jax", parameters=J_THETA, truth=BANDIT, mean=0.9 * BANDIT, objective=bandit_value_jax, fault=SCALED)
def moving_average_jax(theta: Any, key: Any) -> Any:
    a = jax.random.categorical(key, theta, shape=(8,))

    def step(baseline: Any, r: Any) -> Any:
        baseline = 0.9 * baseline + 0.1 * r
        return baseline, r - baseline

    advantage = jax.lax.scan(step, jnp.array(0.4), J_REWARD[a])[1]
    return jax.grad(lambda theta: (advantage * jax.nn.log_softmax(theta)[a]).mean())(theta)


# Right ================================================================================================================

# DisARM and antithetic pairs by hand on uniform noise -----------------------------------------------------------------


def bits_value_torch(logits: Any) -> Any:
    """Return E f by enumeration."""
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=logits.dtype)
    p = torch.sigmoid(logits)
    probability = (bits * p + (1 - bits) * (1 - p)).prod(1)
    return (probability * (bits @ torch.as_tensor(BITS_W, dtype=logits.dtype) - 0.4) ** 2).sum()


@right("disarm", "numpy", truth=BERNOULLI)
def disarm_numpy(rng: np.random.Generator) -> Any:
    u = rng.random(3)
    b, other = (u > 1 - PROB).astype(float), (u < PROB).astype(float)
    f = lambda b: (BITS_W @ b - 0.4) ** 2  # noqa: E731
    sign = np.where(other == 1, -1.0, 1.0)
    return 0.5 * (f(b) - f(other)) * sign * (b != other) * np.maximum(PROB, 1 - PROB)


@right("disarm", "torch", truth=BERNOULLI, parameters=T_LOGITS, objective=bits_value_torch)
def disarm_torch(logits: Any, generator: torch.Generator) -> Any:
    u = torch.rand(3, generator=generator)
    p = torch.sigmoid(logits)
    b, other = (u > 1 - p).float(), (u < p).float()
    f, g = (b @ T_BITS_W - 0.4) ** 2, (other @ T_BITS_W - 0.4) ** 2
    return 0.5 * (f - g) * (1 - 2 * other) * (b != other) * torch.sigmoid(logits.abs())


@right("disarm", "jax", truth=BERNOULLI, parameters=J_LOGITS)
def disarm_jax(logits: Any, key: Any) -> Any:
    u = jax.random.uniform(key, (3,))
    p = jax.nn.sigmoid(logits)
    b, other = (u > 1 - p).astype(jnp.float32), (u < p).astype(jnp.float32)
    f, g = (b @ J_BITS_W - 0.4) ** 2, (other @ J_BITS_W - 0.4) ** 2
    return 0.5 * (f - g) * (1 - 2 * other) * (b != other) * jax.nn.sigmoid(jnp.abs(logits))


@right("antithetic", "numpy", truth=BERNOULLI)
def antithetic_numpy(rng: np.random.Generator) -> Any:
    u = rng.random(3)
    pair = np.stack([u, 1 - u]) < PROB
    f = (pair @ BITS_W - 0.4) ** 2
    return (f[:, None] * (pair - PROB)).mean(0)


@right("antithetic", "jax", truth=SQUARE, problem="square[k=2]")
def antithetic_jax(q: Any, key: Any) -> Any:
    u = jax.random.uniform(key, (4, 1), minval=1e-6, maxval=1 - 1e-6)
    e = jax.scipy.special.ndtri(jnp.concatenate([u, 1 - u]))
    return jax.grad(lambda q: ((q["loc"] + jnp.exp(q["log_scale"]) * e - K) ** 2).mean())(q)


# Gumbel-max -----------------------------------------------------------------------------------------------------------


@right("gumbel-max", "numpy", truth=BANDIT)
def gumbel_max_numpy(rng: np.random.Generator) -> Any:
    a = np.argmax(THETA + rng.gumbel(size=(8, 4)), axis=1)
    return (REWARD[a][:, None] * (np.eye(4)[a] - P)).mean(0)


@right("gumbel-max", "torch", truth=BANDIT, parameters=T_THETA, objective=bandit_value_torch)
def gumbel_max_torch(theta: Any, generator: torch.Generator) -> Any:
    gumbel = -torch.log(-torch.log(torch.rand(8, 4, generator=generator).clamp(1e-12, 1 - 1e-7)))
    hard = torch.nn.functional.one_hot((theta + gumbel).argmax(1), 4).float()
    return torch.func.grad(lambda t: ((hard @ T_REWARD) * (hard @ torch.log_softmax(t, 0))).mean())(theta)


@right("gumbel-max", "jax", truth=KL_GRADIENT, parameters=J_PHI, objective=kl_jax)
def gumbel_max_jax(phi: Any, key: Any) -> Any:
    a = jnp.argmax(phi + jax.random.gumbel(key, (8, 5)), 1)
    cost = jax.lax.stop_gradient(jax.nn.log_softmax(phi) - jnp.log(J_REF))[a]
    return jax.grad(lambda phi: (cost * jax.nn.log_softmax(phi)[a]).mean())(phi)


# Russian roulette with the right weight -------------------------------------------------------------------------------

SERIES = float(sum(0.4**n / math.factorial(n) * (n + 1) for n in range(40)))  # Σ_n (n + 1) 0.4ⁿ / n!


@right("roulette", "numpy", truth=SERIES)
def roulette_numpy(rng: np.random.Generator) -> Any:
    total, n, survival = 0.0, 0, 1.0
    while True:
        total += (n + 1) * 0.4**n / math.factorial(n) / survival
        if rng.random() > 0.7:
            return total
        n, survival = n + 1, survival * 0.7


@right("roulette", "jax", truth=SERIES)
def roulette_jax(key: Any) -> Any:
    def body(state: Any) -> Any:
        key, total, term, n, _ = state
        key, sub = jax.random.split(key)
        going = jax.random.uniform(sub) < 0.7
        n = n + 1
        term = term * 0.4 / n / 0.7
        return key, total + jnp.where(going, (n + 1) * term, 0.0), term, n, going

    start = (key, jnp.array(1.0), jnp.array(1.0), jnp.array(0.0), jnp.array(True))
    return jax.lax.while_loop(lambda state: state[-1], body, start)[1]


@right("roulette", "torch", truth=SERIES)
def roulette_torch(generator: torch.Generator) -> Any:
    total, term, n = torch.tensor(1.0), 1.0, 0
    while torch.rand((), generator=generator) < 0.7:
        n += 1
        term *= 0.4 / n / 0.7
        total = total + (n + 1) * term
    return total


# Importance sampling from 1/2; a Bernoulli drawn from a uniform of one's own ------------------------------------------


@right("importance", "numpy", truth=BERNOULLI)
def coin_importance_numpy(rng: np.random.Generator) -> Any:
    b = rng.integers(2, size=(4, 3))
    w = np.prod(np.where(b == 1, PROB, 1 - PROB) / 0.5, axis=1)
    f = (b @ BITS_W - 0.4) ** 2
    return ((w * f)[:, None] * (b - PROB)).mean(0)


@right("importance", "torch", truth=BERNOULLI, parameters=T_LOGITS, objective=bits_value_torch)
def coin_importance_torch(logits: Any, generator: torch.Generator) -> Any:
    b = torch.randint(0, 2, (4, 3), generator=generator).float()
    f = (b @ T_BITS_W - 0.4) ** 2

    def weighted(logits: Any) -> Any:
        log_p = (b * logits - torch.nn.functional.softplus(logits)).sum(1)
        return (torch.exp(log_p + 3 * math.log(2)) * f).mean()

    return torch.func.grad(weighted)(logits)


@right("importance", "jax", truth=BERNOULLI, parameters=J_LOGITS)
def coin_importance_jax(logits: Any, key: Any) -> Any:
    b = jax.random.bernoulli(key, 0.5, (4, 3)).astype(jnp.float32)
    f = (b @ J_BITS_W - 0.4) ** 2
    return jax.grad(lambda t: (jnp.exp((b * t - jax.nn.softplus(t)).sum(1)) * 8 * f).mean())(logits)


@right("own-uniform", "numpy", truth=BERNOULLI, rng="seed")
def own_uniform_numpy(seed: int) -> Any:
    b = (np.random.default_rng(seed).random((4, 3)) < PROB).astype(float)
    return (((b @ BITS_W - 0.4) ** 2)[:, None] * (b - PROB)).mean(0)


@right("own-uniform", "torch", truth=BERNOULLI, parameters=T_LOGITS, rng="global", objective=bits_value_torch)
def own_uniform_torch(logits: Any) -> Any:
    b = (torch.rand(4, 3) < torch.sigmoid(logits)).float()
    f = (b @ T_BITS_W - 0.4) ** 2
    return (f[:, None] * (b - torch.sigmoid(logits))).mean(0)


@right("own-uniform", "jax", truth=BERNOULLI, parameters=J_LOGITS)
def own_uniform_jax(logits: Any, key: Any) -> Any:
    b = (jax.random.uniform(key, (4, 3)) < jax.nn.sigmoid(logits)).astype(jnp.float32)
    f = (b @ J_BITS_W - 0.4) ** 2
    return jax.grad(lambda t: (f * (b * t - jax.nn.softplus(t)).sum(1)).mean())(logits)


# Leave-one-out in any form --------------------------------------------------------------------------------------------


@right("leave-one-out", "numpy", truth=-4.0, samples=8)
def leave_one_out_numpy(rng: np.random.Generator) -> Any:
    z = rng.standard_normal(8)
    f = (z - K) ** 2
    return ((f - f.mean()) * z).sum() / 7


@right("leave-one-out", "numpy", truth=BANDIT, samples=4)
def leave_one_out_divided_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(4, size=4, p=P)
    r = REWARD[a]
    return ((r - (r.sum() - r) / 4)[:, None] * (np.eye(4)[a] - P)).mean(0)  # any baseline without r itself


@right("leave-one-out", "torch", truth=BANDIT, parameters=T_THETA, objective=bandit_value_torch, samples=4)
def leave_one_out_torch(theta: Any, generator: torch.Generator) -> Any:
    theta = theta.detach().requires_grad_()
    log_p = torch.log_softmax(theta, 0)
    a = torch.multinomial(log_p.detach().exp(), 4, replacement=True, generator=generator)
    r = T_REWARD[a]
    ((r - r.mean()) * log_p[a]).mean().mul(4 / 3).backward()
    return theta.grad


@right("leave-one-out", "jax", truth=SQUARE, problem="square[k=2]", samples=8)
def leave_one_out_jax(q: Any, key: Any) -> Any:
    e = jax.random.normal(key, (8, 1))
    f = (q["loc"] + jnp.exp(q["log_scale"]) * e - K) ** 2
    others = jnp.stack([jnp.delete(f, i, axis=0, assume_unique_indices=True).mean(0) for i in range(8)])
    return {
        "loc": ((f - others) * e / jnp.exp(q["log_scale"])).mean(0),
        "log_scale": ((f - others) * (e**2 - 1)).mean(0),
    }


# Stratified draws -----------------------------------------------------------------------------------------------------


@right("stratified", "numpy", truth=PAIR)
def stratified_numpy(rng: np.random.Generator) -> Any:
    e = stats.norm.ppf((np.arange(8) + rng.random(8)) / 8)
    return np.array([(2 * (e - K)).mean(), (2 * (e - K) * e).mean()])


@right("stratified", "torch", truth=PAIR)
def stratified_torch(generator: torch.Generator) -> Any:
    u = ((torch.arange(8) + torch.rand(8, generator=generator)) / 8).clamp(1e-7, 1 - 1e-7)
    e = torch.special.ndtri(u)
    return torch.stack([(2 * (e - K)).mean(), (2 * (e - K) * e).mean()])


@right("stratified", "jax", truth=SQUARE, problem="square[k=2]")
def stratified_jax(q: Any, key: Any) -> Any:
    u = (jnp.arange(8) + jax.random.uniform(key, (8,))) / 8
    e = jax.scipy.special.ndtri(jnp.clip(u, 1e-7, 1 - 1e-7))[:, None]
    return jax.grad(lambda q: ((q["loc"] + jnp.exp(q["log_scale"]) * e - K) ** 2).mean())(q)


# A surrogate loss with stop-gradients in the right places -------------------------------------------------------------


@right("surrogate", "torch", truth=BANDIT, parameters=T_THETA, objective=bandit_value_torch)
def surrogate_torch(theta: Any, generator: torch.Generator) -> Any:
    theta = theta.detach().requires_grad_()
    p = torch.softmax(theta, 0)
    a = torch.multinomial(p.detach(), 8, replacement=True, generator=generator)
    advantage = (T_REWARD[a] - p @ T_REWARD).detach()
    return torch.autograd.grad((advantage * p[a].log()).mean(), theta)[0]


@right("surrogate", "jax", truth=SEQUENCE, parameters=J_POLICY, objective=sequence_value_jax)
def surrogate_jax(policy: Any, key: Any) -> Any:
    tokens, previous = sample_jax(key, policy)
    to_go = jnp.cumsum(rewards_jax(tokens)[::-1])[::-1]

    def magic_box(policy: Any) -> Any:
        log_pi = jax.nn.log_softmax(policy, 1)[previous, tokens]
        box = jnp.exp(log_pi - jax.lax.stop_gradient(log_pi))
        return (box * to_go).sum()

    return jax.grad(magic_box)(policy)


@right("surrogate", "torch", truth=SEQUENCE, parameters=T_POLICY, objective=sequence_value)
def reward_to_go_torch(policy: Any, generator: torch.Generator) -> Any:
    policy = policy.detach().requires_grad_()
    tokens, previous = sample_torch(generator, torch.softmax(policy.detach(), 1))
    to_go = rewards_torch(tokens).flip(0).cumsum(0).flip(0)
    (to_go * torch.log_softmax(policy, 1)[previous, tokens]).sum().backward()
    return policy.grad


# A rejection sampler; a while loop with a random number of draws ------------------------------------------------------

HALF_NORMAL = 2 * (math.sqrt(2 / math.pi) - K)


@right("rejection", "numpy", truth=HALF_NORMAL)
def rejection_numpy(rng: np.random.Generator) -> Any:
    while True:  # a half-normal from an exponential
        x = rng.exponential()
        if rng.random() < math.exp(-0.5 * (x - 1) ** 2):
            return 2 * (x - K)


@right("rejection", "torch", truth=HALF_NORMAL)
def rejection_torch(generator: torch.Generator) -> Any:
    x = torch.randn((), generator=generator)
    while x < 0:
        x = torch.randn((), generator=generator)
    return 2 * (x - K)


@right("rejection", "jax", truth=HALF_NORMAL)
def rejection_jax(key: Any) -> Any:
    def redraw(state: Any) -> Any:
        key, sub = jax.random.split(state[0])
        return key, jax.random.normal(sub)

    return 2 * (jax.lax.while_loop(lambda s: s[1] < 0, redraw, (key, jnp.array(-1.0)))[1] - K)


@right("while", "numpy", truth=6.0)
def geometric_numpy(rng: np.random.Generator) -> Any:
    n = 1
    while rng.random() < 0.5:
        n += 1
    return float(n * n)  # E n² = (2 − p) / p² = 6


@right("while", "jax", truth=6.0)
def geometric_jax(key: Any) -> Any:
    def body(state: Any) -> Any:
        key, sub = jax.random.split(state[0])
        return key, state[1] + 1, jax.random.bernoulli(sub)

    n = jax.lax.while_loop(lambda s: s[2], body, (key, jnp.array(0.0), jnp.array(True)))[1]
    return n**2


@right("while", "torch", truth=6.0, rng="seed")
def geometric_torch(seed: int) -> Any:
    torch.manual_seed(seed)
    n = 1
    while torch.rand(()) < 0.5:
        n += 1
    return torch.tensor(float(n * n))


# k1 in the reward, k2 in the loss -------------------------------------------------------------------------------------


@right("k1-reward", "numpy", truth=KL_GRADIENT)
def k1_reward_numpy(rng: np.random.Generator) -> Any:
    a = rng.choice(5, size=8, p=PI)
    return (LOG_RATIO[a][:, None] * (np.eye(5)[a] - PI)).mean(0)


@right("k1-reward", "torch", truth=KL_GRADIENT, parameters=T_PHI, objective=kl_torch)
def k1_reward_torch(phi: Any, generator: torch.Generator) -> Any:
    phi = phi.detach().requires_grad_()
    log_pi = torch.log_softmax(phi, 0)
    a = torch.multinomial(log_pi.detach().exp(), 8, replacement=True, generator=generator)
    k1 = (log_pi - T_REF.log())[a].detach()
    (k1 * log_pi[a]).mean().backward()
    return phi.grad


@right("k2-loss", "jax", truth=KL_GRADIENT, parameters=J_PHI, objective=kl_jax)
def k2_loss_jax(phi: Any, key: Any) -> Any:
    a = jax.random.categorical(key, phi, shape=(8,))
    return jax.grad(lambda phi: (0.5 * (jax.nn.log_softmax(phi) - jnp.log(J_REF))[a] ** 2).mean())(phi)


@right("k2-loss", "torch", truth=KL_GRADIENT, parameters=T_PHI, objective=kl_torch)
def k2_loss_torch(phi: Any, generator: torch.Generator) -> Any:
    phi = phi.detach().requires_grad_()
    log_pi = torch.log_softmax(phi, 0)
    a = torch.multinomial(log_pi.detach().exp(), 8, replacement=True, generator=generator)
    (0.5 * (log_pi - T_REF.log())[a] ** 2).mean().backward()
    return phi.grad


# Dropout with the right factor ----------------------------------------------------------------------------------------

KEEP = 0.8
DROPOUT = REGRESSION + (X**2).sum(0) * W * (1 - KEEP) / KEEP  # of E ½ Σ (y − (m ∘ x)·w / keep)²


@right("dropout", "numpy", truth=DROPOUT)
def dropout_numpy(rng: np.random.Generator) -> Any:
    x = X * (rng.random(X.shape) < KEEP) / KEEP
    return -x.T @ (Y - x @ W)


def dropout_loss(module: Any) -> Any:
    """Return the loss, averaged over the dropout masks in closed form."""
    w = module.weight[0]
    x, y = torch.as_tensor(X, dtype=w.dtype), torch.as_tensor(Y, dtype=w.dtype)
    return 0.5 * ((y - x @ w) ** 2).sum() + 0.5 * ((x**2) @ w**2).sum() * (1 - KEEP) / KEEP


DROPOUT_MODULE = torch.nn.Linear(2, 1, bias=False)
DROPOUT_MODULE.weight.data = T_W[None].clone()


@right("dropout", "torch", truth=DROPOUT, parameters=DROPOUT_MODULE, rng="global", objective=dropout_loss)
def dropout_torch(module: Any) -> Any:
    x = torch.nn.functional.dropout(T_X, p=1 - KEEP, training=True)
    return 0.5 * ((T_Y - module(x)[:, 0]) ** 2).sum()


@right("dropout", "jax", truth=DROPOUT, parameters=J_W)
def dropout_jax(w: Any, key: Any) -> Any:
    x = jnp.where(jax.random.bernoulli(key, KEEP, J_X.shape), J_X / KEEP, 0.0)
    return jax.grad(lambda w: 0.5 * ((J_Y - x @ w) ** 2).sum())(w)


# Mixed precision within its rounding ----------------------------------------------------------------------------------


@right(
    "mixed",
    "torch",
    truth=SQUARE,
    parameters={"loc": torch.zeros(1), "log_scale": torch.zeros(1)},
    exact={key: np.array(value) for key, value in SQUARE.items()},
)
def bfloat16_torch(q: Any, generator: torch.Generator) -> Any:
    q = {key: value.detach().requires_grad_() for key, value in q.items()}
    e = torch.randn(64, 1, generator=generator)
    z = q["loc"] + q["log_scale"].exp() * e
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ((z - K) @ torch.ones(1, 1)).float().square().mean()
    loss.backward()
    return {key: value.grad for key, value in q.items()}


@right("mixed", "jax", truth=PAIR)
def float16_products_jax(key: Any) -> Any:
    e = jax.random.normal(key, (64,)).astype(jnp.float16)
    slope = 2 * (e - jnp.float16(K))
    return jnp.stack([slope.astype(jnp.float32).mean(), (slope * e).astype(jnp.float32).mean()])


@right("mixed", "numpy", truth=PAIR)
def float16_products_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(64).astype(np.float16)
    slope = 2 * (e - np.float16(K))
    return np.array([slope.mean(dtype=np.float32), (slope * e).mean(dtype=np.float32)])


# Estimates of exactly zero variance -----------------------------------------------------------------------------------


@right("constant", "numpy", truth={"a": np.array([3.0]), "b": np.array([0.0, 1.5])})
def constant_numpy(rng: np.random.Generator) -> Any:
    rng.standard_normal(4)
    return {"a": np.array([3.0]), "b": np.array([0.0, 1.5])}


@right("constant", "torch", truth=3.0)
def linear_torch(generator: torch.Generator) -> Any:
    loc = torch.tensor(0.5, requires_grad=True)
    z = loc + torch.randn(8, generator=generator)
    (3 * z).mean().backward()
    return loc.grad


@right("constant", "jax", truth=3.0)
def linear_jax(key: Any) -> Any:
    e = jax.random.normal(key, (8,))
    return jax.grad(lambda loc: (3 * (loc + e)).mean())(0.5)


# Means that rest on events of probability 1e-6 ------------------------------------------------------------------------


@right("rare", "numpy", truth=1.0)
def rare_numpy(rng: np.random.Generator) -> Any:
    return 1e6 * (rng.random() < 1e-6)


@right("rare", "jax", truth=2.0)
def rare_beside_noise_jax(key: Any) -> Any:
    k1, k2 = jax.random.split(key)
    return 1 + jax.random.normal(k1) + 1e6 * (jax.random.uniform(k2) < 1e-6)


@right("rare", "torch", truth=2.0)
def rare_beside_noise_torch(generator: torch.Generator) -> Any:
    u = torch.rand((), generator=generator, dtype=torch.float64)
    return 1 + torch.randn((), generator=generator) + 1e6 * (u < 1e-6)


# Gradients of size 1e-12 and 1e+12 ------------------------------------------------------------------------------------


@right("tiny", "numpy", truth=1e-12 * PAIR)
def tiny_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(64)
    return 1e-12 * np.array([(2 * (e - K)).mean(), (2 * (e - K) * e).mean()])


@right("tiny", "torch", truth=1e-12 * PAIR)
def tiny_torch(generator: torch.Generator) -> Any:
    e = torch.randn(64, generator=generator)
    return 1e-12 * torch.stack([(2 * (e - K)).mean(), (2 * (e - K) * e).mean()])


@right("huge", "jax", truth=1e12 * PAIR)
def huge_jax(key: Any) -> Any:
    e = jax.random.normal(key, (64,))
    return 1e12 * jnp.stack([(2 * (e - K)).mean(), (2 * (e - K) * e).mean()])


@right("huge", "numpy", truth=1e12 * PAIR)
def huge_numpy(rng: np.random.Generator) -> Any:
    e = rng.standard_normal(64)
    return 1e12 * np.array([(2 * (e - K)).mean(), (2 * (e - K) * e).mean()])


# Against another gradient ---------------------------------------------------------------------------------------------

_against = {"against": leave_one_out_torch, "parameters": T_THETA}
right("against", "torch", truth=BANDIT, **_against)(surrogate_torch)
wrong(2, "torch", truth=BANDIT, mean=7 / 8 * BANDIT, **_against, samples=8)(mean_baseline_torch)
right("against", "numpy", truth=-4.0, against=lambda rng: 2 * (rng.standard_normal(4).mean() - K))(leave_one_out_numpy)
wrong(26, "numpy", truth=-4.0, mean=-3.0, samples=8, against=lambda rng: 2 * (rng.standard_normal(4).mean() - K))(
    regressed_control_numpy
)


def sum_over_tokens_jax(logits: Any, key: Any) -> Any:
    """Return an unbiased gradient: the sum, not the mean, over the tokens."""
    tokens = jax.random.categorical(key, logits, shape=(LONGEST,))
    mask = jnp.concatenate([jnp.ones(1), jnp.cumprod((tokens != 0).astype(jnp.float32))[:-1]])
    reward = (mask * (tokens == 1)).sum()
    return jax.grad(lambda logits: reward * (mask * jax.nn.log_softmax(logits)[tokens]).sum())(logits)


wrong(4, "jax", truth=TOKEN_EXACT, mean=TOKEN_DIVIDED, parameters=J_TOKENS, against=sum_over_tokens_jax)(
    mean_over_tokens_jax
)
right("sum-over-tokens", "jax", truth=TOKEN_EXACT, parameters=J_TOKENS)(sum_over_tokens_jax)
