import torch

torch.manual_seed(0)
a = torch.tensor(0.01, requires_grad=True)
z = torch.distributions.Beta(a, torch.tensor(0.01)).rsample((1_000_000,))  # clamped to the smallest float32, 1e-38
print("d E log z / da at a = b = 0.01:", torch.autograd.grad(z.log().mean(), a)[0].item(), "exact: 7500")
