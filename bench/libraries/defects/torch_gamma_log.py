import torch

torch.manual_seed(0)
a = torch.tensor(0.01, requires_grad=True)
z = torch.distributions.Gamma(a, torch.tensor(1.0)).rsample((1_000_000,))  # clamped to the smallest float32, 1e-38
print("d E log z / da at a = 0.01:", torch.autograd.grad(z.log().mean(), a)[0].item(), "exact: 10002")  # trigamma(a)
