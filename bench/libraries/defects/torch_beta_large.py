import torch

torch.manual_seed(0)
a = torch.tensor(3.0, requires_grad=True)
z = torch.distributions.Beta(a, torch.tensor(1e5)).rsample((1_000_000,))
print("d E z / da at a = 3, b = 1e5:", torch.autograd.grad(z.mean(), a)[0].item(), "exact: 9.999e-06")  # b / (a + b)^2
