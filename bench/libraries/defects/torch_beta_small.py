import torch

torch.manual_seed(0)
a = torch.tensor(1e-3, requires_grad=True)
z = torch.distributions.Beta(a, torch.tensor(1e-3)).rsample((100_000,))
print("d E z / da at a = b = 0.001:", torch.autograd.grad(z.mean(), a)[0].item(), "exact: 250")  # b / (a + b)^2
