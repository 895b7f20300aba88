// Draws numbers from a Gaussian peak and prints their mean and width, always the same ones.
#include <gsl/gsl_randist.h>
#include <gsl/gsl_statistics.h>

#include <cstdio>
#include <memory>
#include <vector>

int main() {
    const std::unique_ptr<gsl_rng, void (*)(gsl_rng*)> generator(gsl_rng_alloc(gsl_rng_mt19937), gsl_rng_free);
    std::vector<double> masses(100000);
    for (double& mass : masses) mass = 91.19 + gsl_ran_gaussian(generator.get(), 2.5);
    const double mean = gsl_stats_mean(masses.data(), 1, masses.size());
    const double width = gsl_stats_sd_m(masses.data(), 1, masses.size(), mean);
    std::printf("mean %.3f GeV, width %.3f GeV\n", mean, width);
}
