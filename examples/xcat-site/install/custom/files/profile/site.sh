export SITE_SCRATCH=/scratch
