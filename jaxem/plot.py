"""Pictures of data, fits and components: Matplotlib axes in, the same axes out.

Without `ax` each function makes its own figure (`ax.figure`), outside of pyplot, so that no global backend is touched.
Colours can be told apart by colour-blind readers; components also carry their numbers, which survive print in grey.
"""

from jaxem.plots.comparison import figure_comparison, plot_comparison
from jaxem.plots.components import ellipse, plot_components
from jaxem.plots.corner import figure_corner
from jaxem.plots.criteria import plot_criteria
from jaxem.plots.data import plot_missingness
from jaxem.plots.densities import plot_densities
from jaxem.plots.directions import plot_directions
from jaxem.plots.factors import plot_explained, plot_loadings, plot_scores
from jaxem.plots.gate import plot_gate
from jaxem.plots.history import plot_history
from jaxem.plots.influence import plot_influence
from jaxem.plots.intervals import figure_intervals, plot_intervals
from jaxem.plots.likelihood_profile import plot_profile
from jaxem.plots.missing_information import plot_missing_information
from jaxem.plots.missingness import plot_overimputed, plot_patterns, plot_sensitivity
from jaxem.plots.overview import figure_overview
from jaxem.plots.parameters import (
    plot_coefficients,
    plot_correlations,
    plot_means,
    plot_numbers,
    plot_parameters,
)
from jaxem.plots.profiles import plot_profiles
from jaxem.plots.regimes import plot_regimes
from jaxem.plots.regression import plot_regression
from jaxem.plots.residuals import plot_residuals, plot_residuals_against
from jaxem.plots.responsibilities import plot_certainty, plot_responsibilities, plot_uncertainty, uncertainty
from jaxem.plots.sequences import plot_series, plot_smoothed, plot_transitions
from jaxem.plots.state_space import plot_state_space
from jaxem.plots.survival import empirical_survival, plot_survival

__all__ = [
    "ellipse", "empirical_survival", "figure_comparison", "figure_corner", "figure_intervals", "figure_overview", "plot_certainty",
    "plot_coefficients", "plot_comparison", "plot_components", "plot_correlations", "plot_criteria",
    "plot_densities", "plot_directions",
    "plot_explained", "plot_gate", "plot_history", "plot_influence", "plot_intervals", "plot_loadings", "plot_means",
    "plot_missing_information", "plot_missingness", "plot_numbers", "plot_overimputed", "plot_parameters", "plot_patterns",
    "plot_profile", "plot_profiles", "plot_regimes", "plot_regression", "plot_residuals",
    "plot_residuals_against", "plot_responsibilities", "plot_scores", "plot_sensitivity",
    "plot_series", "plot_smoothed", "plot_state_space", "plot_survival", "plot_transitions", "plot_uncertainty", "uncertainty",
]  # fmt: skip
