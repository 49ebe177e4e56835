import torch

torch.manual_seed(0)
df = torch.tensor(0.1, requires_grad=True)
z = torch.distributions.StudentT(df).rsample((1_000_000,))
f = (z**2 / (0.1 + z**2)).mean()  # bounded
print("d E z^2 / (0.1 + z^2) / d df at df = 0.1:", torch.autograd.grad(f, df)[0].item(), "exact: -0.5332")
