import torch

torch.manual_seed(0)
a = torch.tensor(0.1, requires_grad=True)
z = torch.distributions.Kumaraswamy(a, torch.tensor(0.1)).rsample((1_000_000,))
print("d E log z / da at a = b = 0.1:", torch.autograd.grad(z.log().mean(), a)[0].item(), "exact: 15.35")
