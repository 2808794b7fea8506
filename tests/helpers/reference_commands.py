"""Command lines of the reference's own pages."""

# The commands of google-research/simclr's READMEs (TF1 and TF2), with its shell variables filled.
REFERENCE_COMMANDS = {
    "cifar10_pretrain": """
        --train_mode=pretrain --train_batch_size=512 --train_epochs=1000
        --learning_rate=1.0 --weight_decay=1e-4 --temperature=0.5
        --dataset=cifar10 --image_size=32 --eval_split=test --resnet_depth=18
        --use_blur=False --color_jitter_strength=0.5
        --model_dir=/tmp/simclr_test --use_tpu=False""",
    "cifar10_linear": r"""
        --mode=train_then_eval --train_mode=finetune
        --fine_tune_after_block=4 --zero_init_logits_layer=True
        --variable_schema='(?!global_step|(?:.*/|^)Momentum|head)'
        --global_bn=False --optimizer=momentum --learning_rate=0.1 --weight_decay=0.0
        --train_epochs=100 --train_batch_size=512 --warmup_epochs=0
        --dataset=cifar10 --image_size=32 --eval_split=test --resnet_depth=18
        --checkpoint=/tmp/simclr_test --model_dir=/tmp/simclr_test_ft --use_tpu=False""",
    "imagenet_pretrain": """
        --train_mode=pretrain --train_batch_size=4096 --train_epochs=100 --temperature=0.1
        --learning_rate=0.075 --learning_rate_scaling=sqrt --weight_decay=1e-4
        --dataset=imagenet2012 --image_size=224 --eval_split=validation
        --data_dir=gs://bucket/data --model_dir=gs://bucket/model
        --use_tpu=True --tpu_name=pod --train_summary_steps=0""",
    "imagenet_linear": r"""
        --mode=train_then_eval --train_mode=finetune
        --fine_tune_after_block=4 --zero_init_logits_layer=True
        --variable_schema='(?!global_step|(?:.*/|^)Momentum|head)'
        --global_bn=False --optimizer=momentum --learning_rate=0.1 --weight_decay=1e-6
        --train_epochs=90 --train_batch_size=4096 --warmup_epochs=0
        --dataset=imagenet2012 --image_size=224 --eval_split=validation
        --data_dir=gs://bucket/data --model_dir=gs://bucket/ft --checkpoint=gs://bucket/model
        --use_tpu=True --tpu_name=pod --train_summary_steps=0""",
    "imagenet_finetune_1pct": r"""
        --mode=train_then_eval --train_mode=finetune
        --fine_tune_after_block=-1 --zero_init_logits_layer=True
        --variable_schema='(?!global_step|(?:.*/|^)Momentum|head_supervised)'
        --global_bn=True --optimizer=lars --learning_rate=0.005
        --learning_rate_scaling=sqrt --weight_decay=0
        --train_epochs=60 --train_batch_size=1024 --warmup_epochs=0
        --dataset=imagenet2012_subset/1pct --image_size=224 --eval_split=validation
        --data_dir=gs://bucket/data --model_dir=gs://bucket/ft --checkpoint=gs://bucket/model
        --use_tpu=True --tpu_name=pod --train_summary_steps=0
        --num_proj_layers=3 --ft_proj_selector=1""",
}
