from tests.cli.running import gradvar as gradvar
