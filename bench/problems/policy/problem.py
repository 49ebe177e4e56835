"""A policy over short sequences of tokens, as language models are trained with rewards, exact by enumeration.

    J(θ) = (1/P) Σ_p (E_{z ~ π_θ(· | p)}[r(z, p)] − β KL(π_θ(· | p) ‖ π_ref(· | p)))

The P prompts are the data, of which an estimate may draw a minibatch; S counts the samples of every prompt, its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors, log_softmax
from gradmeter.bench.problems.minibatch import RowProblem
from gradmeter.bench.problems.options import batch_option
from gradmeter.bench.problems.policy.exact import Values, enumerated, mean_length, rare_share
from gradmeter.bench.problems.policy.objective import BEHAVIOURS, REWARDS, TokenObjective
from gradmeter.bench.problems.policy.parameterisation import PARAMETERISATIONS, Parameterisation, jacobian_product
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators import Estimator, UsageError
from gradmeter.estimators.families.sequence_policy import SequencePolicy, check_sequences, random_logits, sequences
from gradmeter.estimators.noise import stream_root
from gradmeter.estimators.options import option
from gradmeter.estimators.policy.policy_gradient import PolicyGradient


@dataclass(frozen=True)
class Policy(RowProblem):
    """The gradient of J in θ. π_ref has logits of its own; the samples of off-policy estimators come from μ."""

    name: ClassVar[str] = "policy"
    summary: ClassVar[str] = "expected reward of a policy over tokens less β KL to a reference, exact by enumeration"

    parameterisation: str = option("tabular", "how θ gives the logits", choices=tuple(PARAMETERISATIONS))
    prompts: int = option(2, "P", minimum=1, maximum=1000)
    vocabulary: int = option(3, "V, tokens, of which the first ends a sequence", minimum=2, maximum=1000)
    max_tokens: int = option(3, "T, tokens of the longest sequence", minimum=1, maximum=64)
    reward: str = option("match", "what is rewarded", choices=REWARDS)
    beta: float = option(0.1, "β, coefficient of the KL divergence", minimum=0.0)
    spread: float = option(1.0, "standard deviation of the logits of π", minimum=0.0, maximum=20.0)
    reference_spread: float = option(1.0, "that of the logits of π_ref; 0 for a uniform one", minimum=0.0, maximum=20.0)
    behaviour: str = option("on-policy", "μ, which draws the samples of policy-gradient", choices=BEHAVIOURS)
    amount: float = option(0.5, "size of the drift of a stale μ, or its temperature, or its p", above=0.0, maximum=20.0)
    batch: int | None = batch_option("prompts")

    @property
    def q(self) -> Any:  # type: ignore[override]
        return SequencePolicy.Config(self.vocabulary)

    @property
    def dimension(self) -> int:
        return self.max_tokens

    @property
    def rows(self) -> int:
        return self.prompts

    @property
    def integrand(self) -> TokenObjective:
        return TokenObjective(self.reward, self.behaviour)

    @property
    def encoder(self) -> Parameterisation:
        return PARAMETERISATIONS[self.parameterisation](self.prompts, self.vocabulary, self.max_tokens)

    def check(self) -> None:
        check_sequences(self.vocabulary, self.max_tokens)
        super().check()
        if self.behaviour == "top-p" and self.amount > 1.0:
            raise UsageError(f"problem {self.name}: amount is {self.amount:g}; for behaviour=top-p it is a probability")

    def data(self) -> Vectors:
        encoder, of = self.encoder, (self.vocabulary, self.max_tokens)
        shape = (self.prompts, encoder.prefixes, self.vocabulary)
        generator = np.random.Generator(np.random.PCG64(stream_root("policy", "targets", self.prompts, *of)))
        every = sequences(*of)
        return {
            "targets": every[generator.integers(len(every), size=self.prompts)],
            "reference": log_softmax(np, random_logits(self.reference_spread, "reference", shape=shape)),
            "drift": random_logits(1.0, "drift", shape=shape[1:]),
            "amount": np.asarray(self.amount),
            "beta": np.asarray(self.beta),
            "share": np.asarray(1.0 / self.prompts),
            **encoder.constants(),
            **self.minibatch(),
        }

    def parameters(self) -> Vectors:
        return self.encoder.initial(self.spread)

    def values(self, parameters: Vectors) -> Values:
        """Return the expected reward, the KL divergence and the gradient in the logits at θ."""
        data = self.data()
        return enumerated(self.integrand, data, self.encoder.apply(np, {**data, **parameters}, None)["logits"][0])

    def tokens(self, parameters: Vectors, from_behaviour: bool) -> float:
        """Return the mean number of tokens of one sample of every prompt of an estimate, under μ or else under π."""
        data = self.data()
        logits = self.encoder.apply(np, {**data, **parameters}, None)["logits"]
        if from_behaviour:
            logits = np.swapaxes(logits, 0, 1)  # [P, 1, N, V]
            logits = np.swapaxes(self.integrand.behaviour(np, {**data, "logits": logits}), 0, 1)
        return mean_length(logits[0]) * (self.prompts if self.batch is None else self.batch)

    def unmet_share(self, estimator: Estimator, rarest: float) -> float | None:
        data, behaviour = self.data(), None
        logits = self.encoder.apply(np, {**data, **self.parameters()}, None)["logits"][0]
        if isinstance(estimator, PolicyGradient) and self.behaviour != "on-policy":
            if not estimator.weighs_by_ratio:
                return 0.0
            behaviour = self.integrand.behaviour(np, {**data, "logits": logits[:, None]})[:, 0]
        rarest = min(1.0, rarest * (1.0 if self.batch is None else self.prompts / self.batch))
        return rare_share(self.integrand, data, logits, behaviour, rarest)

    def exact_at(self, parameters: Vectors) -> Exact:
        found = self.values(parameters)
        gradient = jacobian_product(self.encoder, self.data(), parameters, found.slope)
        return Exact(gradient, "enumeration", found.reward - self.beta * found.divergence)
