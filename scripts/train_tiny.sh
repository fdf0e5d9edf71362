#!/bin/sh
# Makes checkpoints/tiny again from nothing, in the folder that is given; hours on two CPU cores. Each command goes on
# where it was ended, and its results are not made twice. docs/training.md explains the steps.
set -eu
cd "${1:?the folder for data sets and runs, such as out/tiny}"

collect() { # folder, episodes, first seed, more options
    folder=$1 episodes=$2 seed=$3
    shift 3
    [ -d "$folder" ] || lingbot-va collect --task transfer_cube --episodes "$episodes" --seed "$seed" --out "$folder" "$@"
}

policy() { # folder of the run, weights to begin with, steps, more options
    run=$1 model=$2 steps=$3
    shift 3
    [ -d "$run/checkpoint" ] || lingbot-va train policy --model "$model" --out "$run" --steps "$steps" --threads 1 \
        --set run.evaluate_batches=4 --set run.compile=true --set optimizer.muon=true "$@"
}

# Goes on with weights and quantiles of a run, and looks more often at where executed actions tell the least.
further() { policy "$@" --keep-quantiles --set optimizer.lr=1.2e-3 --set objective.history_share=0.7; }

# What an expert shows.
collect demonstrations 400 1000
[ -d vae/checkpoint ] || lingbot-va train vae --dataset demonstrations --out vae --threads 2 --steps 3000
policy whole vae/checkpoint 3600 --dataset demonstrations --set optimizer.lr=1.5e-3
further early whole/checkpoint 1400 --dataset demonstrations \
    --set optimizer.flat=0.4 --set clips.early_share=0.6
further reach early/checkpoint 1000 --dataset demonstrations \
    --set optimizer.flat=1.0 --set clips.early_share=0.5 --set clips.early_frames=4

# How it goes on from where the policy gets to.
collect corrections 69 30000 --policy early/checkpoint
further corrected reach/checkpoint 1000 --dataset demonstrations:0.6 --dataset corrections:0.4 \
    --set optimizer.flat=1.0 --set clips.early_share=0.5 --set clips.early_frames=6
collect corrections_2 108 31000 --policy reach/checkpoint
further corrected_2 corrected/checkpoint 2000 \
    --dataset demonstrations:0.5 --dataset corrections:0.2 --dataset corrections_2:0.3 \
    --set optimizer.flat=0.35 --set clips.early_share=0.5 --set clips.early_frames=6
echo "$PWD/corrected_2/checkpoint"
